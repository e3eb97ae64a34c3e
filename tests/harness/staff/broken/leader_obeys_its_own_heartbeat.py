"""Sends heartbeats to itself too, and steps down when they arrive.

The loop goes over all peers, and `peers[me]` is one of them. AppendEntries makes whoever gets it a follower, so each
leader is one for an instant.

Part: 2A
Caught by: TestInitialElection2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def broadcast(self):
        super().broadcast()
        self.go("leader to itself", self.replicate, self.me)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
