"""All servers have the same election timeout.

Without randomness, all time out together, each votes for itself, and they do it again (section 5.2).

Part: 2A
Caught by: nothing
"""

import time

from raft import raft as base


class Raft(base.Raft):
    def __init__(self, peers, me, persister, applyCh):
        super().__init__(peers, me, persister, applyCh)
        self.resetElectionTimer()

    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + 0.5


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
