"""Stays a candidate for good when an election has no winner.

Only a follower's timer starts an election, so a candidate waits for votes that never come (section 5.2: it times out
and starts a new election). Two servers that were each alone for a while never find together.

Part: 2A
Caught by: TestReElection2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def startElection(self):
        if self.role is Role.FOLLOWER:
            super().startElection()
        self.resetElectionTimer()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
