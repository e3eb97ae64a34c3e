"""A server does not take over a newer term from a request.

It compares args.Term with its own and grants nothing, but stays in its old term (Figure 2, All Servers), where it
goes on refusing.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        with self.mu:
            newer = args.Term > self.currentTerm
            reply.Term = self.currentTerm
        if not newer:
            super().RequestVote(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
