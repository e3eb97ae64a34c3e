"""Half of the votes make a leader.

A majority is computed as len(peers) // 2 and compared with >=, so that one of three is a majority by itself (section
5.2).

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def becomeLeaderIfElected(self):
        if self.votes >= len(self.peers) // 2:
            self.votes = len(self.peers)
            super().becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
