"""Never deletes an entry: it adds those that lie behind the end of its log.

Rule 3 of AppendEntries in Figure 2 is easy to overlook, as nothing needs it until two leaders have written at the
same index.

Part: 2B
Caught by: TestRejoin2B: apply error: commit index=N server=N N != server=N N
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def setFrom(self, index, entries):
        behind = self.lastIndex() + 1
        super().setFrom(behind, entries[behind - index :])


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
