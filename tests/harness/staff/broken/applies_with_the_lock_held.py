"""Puts on applyCh with its lock held.

It keeps the order, and works until part 2D. There the service calls Snapshot before it takes the next message: it
waits for the lock, and the lock's owner waits for it.

Part: 2D
Caught by: TestSnapshotBasic2D: Start has not returned for N s
Rate: 90%
"""

import raft.raft as base
from raft.raft import ApplyMsg


class Raft(base.Raft):
    def applier(self):
        with self.mu:
            while not self.killed():
                while not (self.killed() or self.snapshotToApply or self.lastApplied < self.commitIndex):
                    self.applying.wait()
                if self.snapshotToApply:
                    self.applyCh.put(self.snapshotToApply)
                    self.lastApplied = self.snapshotToApply.SnapshotIndex
                    self.snapshotToApply = None
                elif self.lastApplied < self.commitIndex:
                    self.lastApplied += 1
                    command = self.entriesFrom(self.lastApplied)[0].Command
                    self.applyCh.put(ApplyMsg(CommandValid=True, Command=command, CommandIndex=self.lastApplied))


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
