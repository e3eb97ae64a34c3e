"""A candidate calls its peers one by one, with the lock held.

While a Call waits for somebody who is away, the server answers nobody; and two candidates that call each other wait
for each other.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import RequestVoteArgs, RequestVoteReply, Role


class Raft(base.Raft):
    def startElection(self):
        self.role = Role.CANDIDATE
        self.currentTerm += 1
        self.votedFor = self.me
        self.resetElectionTimer()
        last = self.lastIndex()
        args = RequestVoteArgs(self.currentTerm, self.me, last, self.term(last))
        votes = 1
        for peer in self.others:
            reply = RequestVoteReply()
            if self.peers[peer].Call("Raft.RequestVote", args, reply) and reply.VoteGranted:
                votes += 1
        self.votes = votes
        self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
