"""Saves its state as a leader and as a candidate, and not as a follower.

The leader is where entries come in and the candidate where a vote is cast, so that is where persist is called. But a
follower acknowledges an entry or gives its vote, restarts, and knows of neither (Figure 2: updated before responding to
RPCs).

Part: 2C
Caught by: TestPersist12C: apply error: commit index=N server=N N != server=N N
Caught by: TestPersist12C: one(N) failed to reach agreement
Rate: 90%
"""

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def persist(self, snapshot=None):
        if self.role is not Role.FOLLOWER or snapshot is not None:
            super().persist(snapshot)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
