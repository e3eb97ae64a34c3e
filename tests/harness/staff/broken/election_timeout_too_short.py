"""Has an election timeout of 10 to 20 ms, which is over long before the next heartbeat.

One sees a leader quickly, and 2A passes. But every heartbeat comes too late: the servers spend their time on
elections (section 5.6: broadcast time << electionTimeout), and RPCs.

Part: 2B
Caught by: TestCount2B: too many or few RPCs (N) to elect initial leader
Caught by: TestCount2B: term changed too often
Caught by: TestCount2B: too many RPCs (N) for N second of idleness
Caught by: TestConcurrentStarts2B: term changed too often
Rate: 90%
"""

import random
import time

import raft.raft as base


class Raft(base.Raft):
    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + random.uniform(0.01, 0.02)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
