"""Skips entries that are committed while it applies others.

It puts entries on applyCh without the lock, as it should, and sets lastApplied when it is done: to commitIndex, which
has moved on.

Part: 2B
Caught by: TestConcurrentStarts2B: apply error: server N apply out of order N
Caught by: TestConcurrentStarts2B: only N decided for index N; wanted N
Rate: 75%
"""

import raft.raft as base
from raft.raft import ApplyMsg


class Raft(base.Raft):
    def applier(self):
        while not self.killed():
            with self.mu:
                while not (self.killed() or self.lastApplied < self.commitIndex):
                    self.applying.wait()
                first = self.lastApplied + 1
                committed = self.entriesFrom(first)[: self.commitIndex - self.lastApplied]
            for i, entry in enumerate(committed, first):
                self.applyCh.put(ApplyMsg(CommandValid=True, Command=entry.Command, CommandIndex=i))
            with self.mu:
                self.lastApplied = self.commitIndex


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
