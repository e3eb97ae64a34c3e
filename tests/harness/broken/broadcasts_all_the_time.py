"""A leader sends heartbeats a hundred times a second.

So that new entries go out soon. The lab allows tens of RPCs a second.

Part: 2B
Caught by: nothing
"""

import time

from raft import raft as base


class Raft(base.Raft):
    def broadcast(self):
        super().broadcast()
        self.heartbeatDue = time.monotonic() + 0.01


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
