"""Cuts its log behind the entries of every AppendEntries, also of an old one.

Figure 2 deletes entries only if one conflicts, and cutting always is shorter (AppendEntries, rule 3). A request that
was overtaken brings less than the follower has acknowledged since. The leader knows that entry to be there, and never
goes back so far; both try again without end, which takes this test some seconds a run.

Part: 2C
Caught by: TestUnreliableAgree2C: one(N) failed to reach agreement
Rate: 70%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        super().AppendEntries(args, reply)
        with self.mu:
            if reply.Success and args.PrevLogIndex >= self.lastIncludedIndex:
                self.setFrom(args.PrevLogIndex + 1, args.Entries)
                self.persist()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
