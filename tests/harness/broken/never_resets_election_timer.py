"""Does not reset its election timer when it hears from the leader.

The timer is reset where elections begin and votes are granted, and AppendEntries is forgotten (Figure 2, followers).
Every follower becomes a candidate again and again, and as elections take no time on the lab's network, there is a
leader whenever a test looks. TestInitialElection2A only warns that the term changed; now and then TestRPCBytes2B
loses its leader at the wrong moment.

Part: 2A
Caught by: nothing
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
