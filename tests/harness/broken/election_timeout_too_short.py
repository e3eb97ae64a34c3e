"""Election timeouts are shorter than a heartbeat.

Tens of milliseconds look generous beside a network that takes one. Leaders are deposed before their first heartbeat
(section 5.2).

Part: 2A
Caught by: nothing
"""

import random
import time

from raft import raft as base


class Raft(base.Raft):
    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + random.uniform(0.02, 0.04)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
