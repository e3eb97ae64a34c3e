"""Commits a command in Start, before anybody else has it.

The first test of part 2B needs no more to pass: the entry reaches the others a moment later. Without a majority it
may be lost (section 5.3: committed once it is on a majority).

Part: 2B
Caught by: TestFollowerFailure2B: N committed but no majority
Caught by: TestFailNoAgree2B: N committed but no majority
Caught by: TestLeaderFailure2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def Start(self, command):
        result = super().Start(command)
        with self.mu:
            if self.role is Role.LEADER:
                self.commitIndex = self.lastIndex()
                self.applying.notify()
        return result


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
