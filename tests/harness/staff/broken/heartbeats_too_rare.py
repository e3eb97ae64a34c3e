"""Sends a heartbeat once a second, which is longer than its election timeout.

The lab asks for few RPCs, and the election timeout is the paper's. The followers never wait for so long, and elect a
new leader instead (section 5.6: the broadcast time must be much shorter).

Part: 2B
Caught by: TestBackup2B: test took longer than N seconds
Caught by: TestBasicAgree2B: one(N) failed to reach agreement
Rate: 90%
"""

import time

import raft.raft as base


class Raft(base.Raft):
    def broadcast(self):
        super().broadcast()
        self.heartbeatDue = time.monotonic() + 1


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
