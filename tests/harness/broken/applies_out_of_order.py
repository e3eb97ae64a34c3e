"""Each entry is applied by a thread of its own.

So that the applier need not wait for the service; but nothing orders those threads.

Part: 2B
Caught by: nothing
"""

from raft import raft as base
from raft.raft import ApplyMsg


class Raft(base.Raft):
    def applier(self):
        while not self.killed():
            with self.mu:
                while not (self.killed() or self.lastApplied < self.commitIndex):
                    self.applying.wait()
                for i in range(self.lastApplied + 1, self.commitIndex + 1):
                    message = ApplyMsg(CommandValid=True, Command=self.log[i].Command, CommandIndex=i)
                    self.go("apply", self.applyCh.put, message)
                self.lastApplied = self.commitIndex


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
