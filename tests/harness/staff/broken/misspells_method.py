"""Calls a method that no server has: RequestVotes, with an s.

The name is a string, so no tool finds it. The network does, and says what there is.

Part: 2A
Caught by: TestInitialElection2A: thread 'server N candidate to N' died: LabrpcError: labrpc.Service.dispatch(): unknown method RequestVotes in Raft.RequestVotes; expecting one of ['AppendEntries',
Rate: 95%
"""

import raft.raft as base
from raft.raft import RequestVoteReply


class Raft(base.Raft):
    def askForVote(self, peer, args):
        self.peers[peer].Call("Raft.RequestVotes", args, RequestVoteReply())


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
