"""Waits five to ten seconds before it starts an election.

Whoever has seen too many elections makes the timeout longer and longer. The lab wants a new leader within five
seconds of the old one's failure.

Part: 2A
Caught by: TestReElection2A: expected one leader, got none
Caught by: TestManyElections2A: expected one leader, got none
Rate: 95%
"""

import random
import time

import raft.raft as base


class Raft(base.Raft):
    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + random.uniform(5, 10)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
