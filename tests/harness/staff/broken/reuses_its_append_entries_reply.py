"""Has one AppendEntries reply for each peer, and uses it for all calls.

It is made once, beside nextIndex and matchIndex. A False that arrives is a zero value, which is not sent, so the True of
an earlier answer stays where it was: the leader takes a refusal for a success, and counts entries that are not there.
LabgobWarning says that the reply was not a new one.

Part: 2B
Caught by: TestFailAgree2B: one(N) failed to reach agreement
Rate: 100%
"""

import _plain as plain


class Raft(plain.Raft):
    def __init__(self, peers, me, persister, applyCh):
        super().__init__(peers, me, persister, applyCh)
        self.replies = [plain.AppendEntriesReply() for _ in peers]

    def replyFor(self, peer):
        return self.replies[peer]


def Make(peers, me, persister, applyCh):
    return plain.make(Raft, peers, me, persister, applyCh)
