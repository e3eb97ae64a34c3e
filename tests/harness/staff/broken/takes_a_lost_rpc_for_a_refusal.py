"""Goes back also when no answer came at all.

When Call returns False the reply is as it was made, and its Success is False. The nextIndex of a follower that is away
falls below 1; the log has no such index, but Python's lists have, and it counts from their end. The leader finds its
way again when the follower is back, if the network is not too bad.

Part: 2C
Caught by: TestFigure8Unreliable2C: one(N) failed to reach agreement
Rate: 70%
"""

import raft.raft as base
from raft.raft import AppendEntriesArgs, AppendEntriesReply


class Raft(base.Raft):
    def entriesSender(self, peer):
        prev = self.nextIndex[peer] - 1
        args = AppendEntriesArgs(
            self.currentTerm, self.me, prev, self.term(prev), self.entriesFrom(prev + 1), self.commitIndex
        )

        def send():
            reply = AppendEntriesReply()
            arrived = self.peers[peer].Call("Raft.AppendEntries", args, reply)
            with self.mu:
                if not self.stillLeading(reply.Term, args.Term):
                    return False
                if reply.Success:
                    self.matchIndex[peer] = prev + len(args.Entries)
                    self.nextIndex[peer] = self.matchIndex[peer] + 1
                    self.advanceCommitIndex()
                else:
                    self.nextIndex[peer] -= 1
                return arrived

        return send


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
