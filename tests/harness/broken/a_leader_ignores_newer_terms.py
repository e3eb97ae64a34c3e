"""A leader never steps down.

Whoever leads believes in itself and does not look at terms (Figure 2, All Servers). A leader that comes back after a
partition goes on leading, in its old term; the lab's check takes the newest leader and asks nobody for an
explanation, unless both meet in one term.

Part: 2A
Caught by: nothing
"""

from raft import raft as base
from raft.raft import Role


class Raft(base.Raft):
    def followNewerTerm(self, term):
        if self.role is not Role.LEADER:
            super().followNewerTerm(term)

    def stepDown(self):
        if self.role is not Role.LEADER:
            super().stepDown()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
