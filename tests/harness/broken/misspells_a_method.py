"""An RPC is called by a name that no method has.

RequestVotes in place of RequestVote.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import RequestVoteReply


class Raft(base.Raft):
    def askForVote(self, peer, args):
        self.peers[peer].Call("Raft.RequestVotes", args, RequestVoteReply())


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
