"""Sends to its peers one after another, in one thread.

A loop of Calls, and a flag so that there is only one such loop. A server that was cut off lets a Call wait for up to
seven seconds, so those behind it in the loop hear nothing and elect another leader (section 5.1: RPCs are issued in
parallel).

Part: 2B
Caught by: TestFailAgree2B: one(N) failed to reach agreement
Caught by: TestFollowerFailure2B: one(N) failed to reach agreement
Caught by: TestBackup2B: one(N) failed to reach agreement
Rate: 90%
"""

import time

import raft.raft as base
from raft.raft import HEARTBEAT


class Raft(base.Raft):
    busy = False

    def broadcast(self):
        self.heartbeatDue = time.monotonic() + HEARTBEAT
        if not self.busy:
            self.busy = True
            self.go("leader to all", self.replicateToAll)

    def replicateToAll(self):
        for peer in self.others:
            self.replicate(peer)
        self.busy = False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
