"""Does not count its own vote.

The count begins at 0 instead of 1, and nobody asks the candidate itself (section 5.2). Three servers elect a leader
while all are there, and none once one is gone.

Part: 2A
Caught by: TestReElection2A: expected one leader, got none
Caught by: TestManyElections2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def becomeLeaderIfElected(self):
        if self.votes - 1 > len(self.peers) // 2:  # votes begins at 1
            super().becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
