"""Takes a success for all entries that the leader has by then, not for those that it sent.

matchIndex is set from the log when the reply arrives, while Start has added entries to it. They count as replicated
and are not sent again.

Part: 2C
Caught by: TestUnreliableAgree2C: one(N) failed to reach agreement
Caught by: TestFigure8Unreliable2C: apply error: commit index=N server=N N != server=N N
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def entriesSender(self, peer):
        send = super().entriesSender(peer)

        def sendAndMatchAll():
            before = self.matchIndex[peer]
            progress = send()
            with self.mu:
                if self.matchIndex[peer] > before:
                    self.matchIndex[peer] = self.lastIndex()
                    self.nextIndex[peer] = self.lastIndex() + 1
                    self.advanceCommitIndex()
            return progress

        return sendAndMatchAll


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
