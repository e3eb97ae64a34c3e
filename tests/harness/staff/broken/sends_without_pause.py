"""Sends AppendEntries a hundred times a second, whether there is something to send or not.

A loop with a short sleep finds new entries quickly without any condition variable. The lab counts its RPCs.

Part: 2B
Caught by: TestCount2B: too many RPCs (N) for N second of idleness
Caught by: TestCount2B: too many or few RPCs (N) to elect initial leader
Rate: 95%
"""

import time

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def replicate(self, peer):
        while self.role is Role.LEADER and not self.killed():
            super().replicate(peer)
            time.sleep(0.01)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
