"""Does not reset its election timer when it hears from the leader.

The timer is reset where elections begin and votes are granted, and AppendEntries is forgotten (Figure 2, followers).
Every follower becomes a candidate again and again, and as elections take no time on the lab's network, there is a
leader whenever a test looks. TestInitialElection2A only warns that the term changed; on a bad network, with much to
bring in, no leader stays for long enough.

Part: 2C
Caught by: TestFigure8Unreliable2C: one(N) failed to reach agreement
Rate: 10%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        due = self.electionDue
        super().AppendEntries(args, reply)
        self.electionDue = due


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
