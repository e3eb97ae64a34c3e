"""Looks whether there is a previous entry, and not whether it is of the right term.

PrevLogIndex seems to be enough: the log is long enough, so the entries fit. But they may follow another entry than in
the leader's log, and the Log Matching Property is gone (section 5.3; Figure 2, AppendEntries, rule 2).

Part: 2B
Caught by: TestRejoin2B: apply error: commit index=N server=N N != server=N N
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        with self.mu:
            if self.lastIncludedIndex <= args.PrevLogIndex <= self.lastIndex():
                args.PrevLogTerm = self.term(args.PrevLogIndex)
        super().AppendEntries(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
