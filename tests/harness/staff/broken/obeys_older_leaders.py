"""Obeys the leader of an older term as if it were the current one.

Rule 1 of AppendEntries in Figure 2 is missing: reply false if term < currentTerm. An old leader that comes back
writes its own entries over those that are committed, before it learns of the newer term.

Part: 2B
Caught by: TestRejoin2B: apply error: commit index=N server=N N != server=N N
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        args.Term = max(args.Term, self.currentTerm)  # else the shipped one refuses
        super().AppendEntries(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
