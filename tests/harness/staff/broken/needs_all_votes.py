"""Becomes leader only with the votes of all servers.

It waits for all answers before it counts them, or compares with the number of peers. All is well until the first
server fails (section 5.2: a majority).

Part: 2A
Caught by: TestReElection2A: expected one leader, got none
Caught by: TestManyElections2A: expected one leader, got none
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def becomeLeaderIfElected(self):
        if self.votes == len(self.peers):
            super().becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
