"""Sends one heartbeat when it is elected, and none after that.

The heartbeat is sent where the election is won, and the idle periods of section 5.2 are overlooked. The followers
elect a new leader twice a second. Elections alone do not show it, as there is a leader whenever a test looks;
commands do.

Part: 2B
Caught by: TestConcurrentStarts2B: term changed too often
Caught by: TestCount2B: term changed too often
Rate: 95%
"""

import time

import raft.raft as base


class Raft(base.Raft):
    def broadcast(self):
        super().broadcast()
        self.heartbeatDue = time.monotonic() + 3600


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
