"""A leader backs nextIndex up by one entry for each refusal.

As in the body of section 5.3, without the quick way back that its end describes. In this network a refusal takes a
millisecond or two, so TestBackup2B has time enough for its fifty steps; with delays and losses it is slow, not wrong.

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def backUp(self, prev, reply):
        return prev


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
