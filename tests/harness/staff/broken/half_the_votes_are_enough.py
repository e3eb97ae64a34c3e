"""Takes half of the votes for a majority.

`>=` stands where `>` should, so of three servers one is enough, and each elects itself (section 5.2). Three servers
show it as soon as one of them is alone.

Part: 2A
Caught by: TestReElection2A: expected no leader among connected servers, but N claims to be leader
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def becomeLeaderIfElected(self):
        if self.votes >= len(self.peers) // 2:
            self.votes = len(self.peers)  # what the shipped one takes for a majority
            super().becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
