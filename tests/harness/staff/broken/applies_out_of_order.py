"""Applies each committed entry in a thread of its own, and the threads overtake each other.

A put on applyCh may block, so it goes into a thread, as RPCs do. Then nothing keeps the order of the log (section
5.3: entries are applied in log order).

Part: 2B
Caught by: TestBackup2B: apply error: server N apply out of order N
Caught by: TestCount2B: apply error: server N apply out of order N
Rate: 90%
"""

import raft.raft as base
from raft.raft import ApplyMsg


class Raft(base.Raft):
    def applier(self):
        while not self.killed():
            with self.mu:
                while not (self.killed() or self.lastApplied < self.commitIndex):
                    self.applying.wait()
                if not self.killed():
                    self.lastApplied += 1
                    message = ApplyMsg(
                        CommandValid=True,
                        Command=self.entriesFrom(self.lastApplied)[0].Command,
                        CommandIndex=self.lastApplied,
                    )
                    self.go("applier of one", self.applyCh.put, message)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
