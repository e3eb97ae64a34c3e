"""Start returns when the entry is committed.

It is to return at once (the lab's interface); without a majority it never returns.

Part: 2B
Caught by: nothing
"""

import time

from raft import raft as base


class Raft(base.Raft):
    def Start(self, command):
        index, term, isLeader = super().Start(command)
        while isLeader and self.commitIndex < index and not self.killed():
            time.sleep(0.01)
        return index, term, isLeader


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
