"""Deadlocks when it calls GetState while it holds the lock, which GetState takes too.

GetState says whether this server leads, which an election wants to know as well. In other languages locks let their
owner in again. Here that takes an RLock; a Lock makes the thread wait for itself, and everybody else with it.

Part: 2A
Caught by: TestInitialElection2A: Deadlock at N.N s of virtual time: every thread is blocked
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def startElection(self):
        _, isLeader = self.GetState()
        if not isLeader:
            super().startElection()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
