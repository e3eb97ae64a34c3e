"""A leader sends no heartbeats.

Elections work, so the first leader appears; but nobody hears of it (section 5.2), every election timeout deposes it,
and the term grows without end.

Part: 2A
Caught by: nothing
"""

import time

from raft import raft as base


class Raft(base.Raft):
    def broadcast(self):
        self.heartbeatDue = time.monotonic() + base.HEARTBEAT


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
