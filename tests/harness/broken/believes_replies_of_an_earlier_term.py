"""A leader takes replies to what it sent in an earlier term.

Between the call and the reply it may have lost and won an election, and its log may be another one (the lab's advice:
compare the term with that of the request).

Part: 2C
Caught by: nothing
"""

from raft import raft as base
from raft.raft import Role


class Raft(base.Raft):
    def stillLeading(self, replyTerm, askedIn):
        self.followNewerTerm(replyTerm)
        return self.role is Role.LEADER


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
