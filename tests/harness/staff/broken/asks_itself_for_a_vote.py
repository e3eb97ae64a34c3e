"""Asks itself for a vote too, and so counts its own vote twice.

The loop goes over all peers, and `peers[me]` is one of them. RequestVote grants it, as votedFor is this very
candidate, so a server that is alone has two votes of three (section 5.2).

Part: 2A
Caught by: TestReElection2A: expected no leader among connected servers, but N claims to be leader
Rate: 95%
"""

import raft.raft as base
from raft.raft import RequestVoteArgs


class Raft(base.Raft):
    def startElection(self):
        super().startElection()
        last = self.lastIndex()
        args = RequestVoteArgs(self.currentTerm, self.me, last, self.term(last))
        self.go("candidate to itself", self.askForVote, self.me, args)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
