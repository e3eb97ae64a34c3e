"""Applies entries twice: several threads apply, and lastApplied moves only after the put.

Whoever moves commitIndex starts a thread to apply what is new. Two of them read the same lastApplied. The service of
parts 2A to 2C does not mind to see an entry again; that of 2D does.

Part: 2D
Caught by: TestSnapshotBasic2D: apply error: server N apply out of order, expected index N, got N
Rate: 90%
"""

import raft.raft as base
from raft.raft import ApplyMsg


class Raft(base.Raft):
    def applier(self):
        with self.mu:
            while not self.killed():
                self.applying.wait()
                self.go("applier", self.applyWhatIsNew)

    def applyWhatIsNew(self):
        while True:
            with self.mu:
                if self.snapshotToApply:
                    message, self.snapshotToApply = self.snapshotToApply, None
                elif self.lastApplied < self.commitIndex:
                    i = self.lastApplied + 1
                    message = ApplyMsg(CommandValid=True, Command=self.entriesFrom(i)[0].Command, CommandIndex=i)
                else:
                    return
            self.applyCh.put(message)
            with self.mu:
                self.lastApplied = message.CommandIndex or message.SnapshotIndex


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
