"""Does not return from Start before the command is committed.

It is what a client wants, and the lab says that Start returns at once. A leader without a majority never returns.

Part: 2B
Caught by: TestFollowerFailure2B: Start has not returned for N s
Caught by: TestFailNoAgree2B: Start has not returned for N s
Rate: 95%
"""

import time

import raft.raft as base


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
