"""Goes back one entry for each refusal.

Figure 2 says so, and the lab asks for the quicker way at the end of section 5.3. Where a refusal comes back at once,
fifty entries take no time, so TestBackup2B, which is meant for it, does not see it. On a slow network that loses
messages a leader does not get there while the test waits.

Part: 2C
Caught by: TestFigure8Unreliable2C: one(N) failed to reach agreement
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def backUp(self, prev, reply):
        return max(1, prev)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
