"""A candidate counts votes for its earlier elections.

A reply that comes late is for the election in which the vote was asked for. Who counts it now may lead without a
majority. The lab's network has to hold a vote back for that, which in part 2A it does not.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import RequestVoteReply, Role


class Raft(base.Raft):
    def askForVote(self, peer, args):
        reply = RequestVoteReply()
        if self.peers[peer].Call("Raft.RequestVote", args, reply):
            with self.mu:
                self.followNewerTerm(reply.Term)
                if reply.VoteGranted and self.role is Role.CANDIDATE:
                    self.votes += 1
                    self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
