"""A candidate wants every vote.

It waits until all have answered. While one server is away, nobody is elected (section 5.2).

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def becomeLeaderIfElected(self):
        if self.votes == len(self.peers):
            super().becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
