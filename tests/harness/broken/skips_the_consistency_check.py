"""A follower takes entries without looking at the one before.

PrevLogIndex and PrevLogTerm are sent and ignored (Figure 2, AppendEntries, step 2).

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        with self.mu:
            if args.PrevLogIndex <= self.lastIndex():
                args.PrevLogTerm = self.term(args.PrevLogIndex)
        super().AppendEntries(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
