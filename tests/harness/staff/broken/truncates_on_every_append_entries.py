"""Cuts its log behind the entries of every AppendEntries.

Figure 2 deletes entries only if one conflicts; cutting always is shorter (AppendEntries, rule 3). A request that was
overtaken brings less than the follower has acknowledged since, and the leader, who counts on that, has to send it again.

Part: 2B
Caught by: TestCount2B: too many RPCs
Caught by: TestCount2B: only N decided for index N
Rate: 65%
"""

import _plain as plain


class Raft(plain.Raft):
    def append(self, prev, entries):
        self.log[prev + 1 :] = entries


def Make(peers, me, persister, applyCh):
    return plain.make(Raft, peers, me, persister, applyCh)
