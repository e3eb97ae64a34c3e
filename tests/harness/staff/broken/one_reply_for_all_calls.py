"""Uses one reply object for all its calls.

It saves a line. Answers that arrive at the same time fill in the same object, so that a vote is counted that was never
granted; LabgobWarning says that the reply was not a new one. Part 2A has hardly any votes that are refused. A server
whose log is behind is refused often, and leads all the same.

Part: 2C
Caught by: TestPersist22C: apply error: commit index=N server=N N != server=N N
Rate: 30%
"""

import raft.raft as base
from raft.raft import RequestVoteReply, Role


class Raft(base.Raft):
    def __init__(self, peers, me, persister, applyCh):
        super().__init__(peers, me, persister, applyCh)
        self.reply = RequestVoteReply()

    def askForVote(self, peer, args):
        if not self.peers[peer].Call("Raft.RequestVote", args, self.reply):
            return
        with self.mu:
            self.followNewerTerm(self.reply.Term)
            if self.reply.VoteGranted and self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                self.votes += 1
                self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
