"""Has the same election timeout on every server and in every election.

The timeout is a constant, as in the lab's hint about its size, and the hint about chance is overlooked. All followers
hear the last heartbeat together, so they become candidates together, split the votes, and do it again (section 5.2).
The lab's network is quick enough for one of them to be first in most runs.

Part: 2A
Caught by: TestManyElections2A: expected one leader, got none
Rate: 10%
"""

import time

import raft.raft as base


class Raft(base.Raft):
    def resetElectionTimer(self):
        self.electionDue = time.monotonic() + 0.5


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
