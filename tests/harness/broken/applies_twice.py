"""The last entry is applied again with the next one.

The applier begins at lastApplied in place of lastApplied + 1 (Figure 2, All Servers).

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
                first = max(1, self.lastApplied)
                messages = [
                    ApplyMsg(CommandValid=True, Command=self.log[i].Command, CommandIndex=i)
                    for i in range(first, self.commitIndex + 1)
                ]
                self.lastApplied = self.commitIndex
            for message in messages:
                self.applyCh.put(message)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
