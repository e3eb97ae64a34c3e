"""Returns indices from Start that count from 0, as Python does.

The first index of the lab and the paper is 1. The log itself is right, so applyCh and Start differ by one.

Part: 2B
Caught by: TestBasicAgree2B: one(N) failed to reach agreement
Caught by: TestConcurrentStarts2B: cmd N missing in [N N N N N]
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def Start(self, command):
        index, term, isLeader = super().Start(command)
        return index - 1, term, isLeader


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
