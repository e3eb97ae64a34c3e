"""A candidate counts every reply as a vote.

That the call succeeded is taken for the answer; VoteGranted is not looked at.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import RequestVoteReply, Role


class Raft(base.Raft):
    def askForVote(self, peer, args):
        if self.peers[peer].Call("Raft.RequestVote", args, RequestVoteReply()):
            with self.mu:
                if self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                    self.votes += 1
                    self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
