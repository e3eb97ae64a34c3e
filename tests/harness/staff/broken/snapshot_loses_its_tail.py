"""Throws away the whole log when its service makes a snapshot.

Snapshot is called with an index, and the log goes on behind it: those entries are in no snapshot yet (section 7).

Part: 2D
Caught by: TestSnapshotBasic2D: thread 'server N leader to N' died: IndexError: list index out of range
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def Snapshot(self, index, snapshot):
        with self.mu:
            if self.lastIncludedIndex < index <= self.lastApplied:
                self.discardUpTo(index, self.term(index))
                self.setFrom(index + 1, [])
                self.persist(snapshot)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
