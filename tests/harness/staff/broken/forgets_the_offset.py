"""Uses an index of the paper as a place in the list after the log was trimmed.

One helper was forgotten when lastIncludedIndex came in. It is right until the first snapshot.

Part: 2D
Caught by: TestSnapshotBasic2D: thread 'server N leader to N' died: IndexError: list index out of range
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def term(self, index):
        return self.log[index].Term


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
