"""A server votes once in its life.

votedFor is not cleared with a newer term (Figure 2, All Servers), so whoever voted in the first election votes for
nobody else in the next.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def followNewerTerm(self, term):
        votedFor = self.votedFor
        super().followNewerTerm(term)
        self.votedFor = votedFor


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
