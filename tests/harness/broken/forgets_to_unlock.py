"""A handler returns without releasing the lock.

With acquire and release in place of `with`, the early return for an old term is forgotten; from then on the server
stands still.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        self.mu.acquire()
        if args.Term <= self.currentTerm:
            reply.Term = self.currentTerm
            return
        self.mu.release()
        super().RequestVote(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
