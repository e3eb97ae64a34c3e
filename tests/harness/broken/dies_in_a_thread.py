"""A thread that counts votes dies of an exception.

An attribute is used that the constructor does not make. In Go the whole program would stop with a panic; Python ends
the thread alone, and says so where nobody looks.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def askForVote(self, peer, args):
        super().askForVote(peer, args)
        self.votesFrom.add(peer)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
