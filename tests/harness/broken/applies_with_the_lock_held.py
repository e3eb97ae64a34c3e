"""The applier puts on applyCh while it holds the lock.

The service takes a snapshot before it reads on, and Snapshot wants the lock.

Part: 2D
Caught by: nothing
"""

from raft import raft as base
from raft.raft import ApplyMsg


class Raft(base.Raft):
    def applier(self):
        with self.mu:
            while not self.killed():
                while not (self.killed() or self.lastApplied < self.commitIndex):
                    self.applying.wait()
                while self.lastApplied < self.commitIndex and not self.killed():
                    self.lastApplied += 1
                    entry = self.log[self.lastApplied - self.lastIncludedIndex]
                    self.applyCh.put(ApplyMsg(CommandValid=True, Command=entry.Command, CommandIndex=self.lastApplied))


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
