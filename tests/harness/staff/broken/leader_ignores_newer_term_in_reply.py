"""Looks for a newer term in requests, and not in the replies to its own.

The reply to a heartbeat seems to be of no interest (section 5.1). A leader that comes back learns of the newer term
all the same, from the next heartbeat of its successor, so the lab's tests pass; without a successor it would go on
leading nobody. The paper's rules see it where servers come back with newer terms and have not asked for votes yet, in
about one of six trials of TestManyElections2A.

Part: 2A
Caught by: nothing
"""

import raft.raft as base
from raft.raft import Role


class Raft(base.Raft):
    def stillLeading(self, replyTerm, askedIn):
        return replyTerm <= askedIn and self.role is Role.LEADER and self.currentTerm == askedIn


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
