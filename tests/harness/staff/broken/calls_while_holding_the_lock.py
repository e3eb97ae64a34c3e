"""Holds its lock while it waits for the answer to an RPC.

It looks safe, as the answer changes the state. But a server that was cut off lets a Call wait for up to seven
seconds, and meanwhile the caller answers nobody; two candidates that call each other wait for good.

Part: 2A
Caught by: TestManyElections2A: GetState has not returned for N s
Caught by: TestReElection2A: GetState has not returned for N s
Rate: 95%
"""

import raft.raft as base
from raft.raft import RequestVoteReply, Role


class Raft(base.Raft):
    def askForVote(self, peer, args):
        reply = RequestVoteReply()
        with self.mu:
            if not self.peers[peer].Call("Raft.RequestVote", args, reply):
                return
            self.followNewerTerm(reply.Term)
            if reply.VoteGranted and self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                self.votes += 1
                self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
