"""Does not save votedFor.

The term and the log are saved, and a vote seems to be over with the election. A server that crashes right after its
vote may vote again in that term (Figure 2: persistent state). It would have to be back before the election is over,
and the lab's tests restart nobody so quickly: so the paper's rules, which would see both votes, do not either. Hunting
(--hunt) restarts servers sooner.

Part: 2C
Caught by: nothing
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        super().readPersist()
        self.votedFor = None  # as if it had not been saved


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
