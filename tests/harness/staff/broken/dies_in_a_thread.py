"""Dies in the thread that asks for a vote: it unpacks what Call returns.

Elsewhere a call returns whether it arrived, and the reply. Here it returns a bool, and fills in the reply that it is
given. The exception ends a thread and nothing else, so without a harness that looks, nobody would know.

Part: 2A
Caught by: TestInitialElection2A: thread 'server N candidate to N' died: TypeError: cannot unpack non-iterable bool object
Rate: 95%
"""

import raft.raft as base
from raft.raft import RequestVoteReply, Role


class Raft(base.Raft):
    def askForVote(self, peer, args):
        ok, reply = self.peers[peer].Call("Raft.RequestVote", args, RequestVoteReply())
        if not ok:
            return
        with self.mu:
            self.followNewerTerm(reply.Term)
            if reply.VoteGranted and self.role is Role.CANDIDATE and self.currentTerm == args.Term:
                self.votes += 1
                self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
