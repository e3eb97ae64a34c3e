"""Votes once and never again: it keeps votedFor when a new term begins.

A new term is taken over from an RPC, and the vote of the old one is not forgotten with it (Figure 2: votedFor is the
candidate that received the vote in the current term). The second election finds no voters.

Part: 2A
Caught by: TestReElection2A: expected one leader, got none
Caught by: TestManyElections2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def followNewerTerm(self, term):
        votedFor = self.votedFor
        super().followNewerTerm(term)
        self.votedFor = votedFor


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
