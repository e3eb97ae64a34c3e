"""A follower lets its log end with what an AppendEntries brings.

Also when the message is old and brings less than is there (Figure 2, AppendEntries, step 3: only a conflict cuts). An
entry that a majority had, and was counted for, is gone.

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        super().AppendEntries(args, reply)
        with self.mu:
            if reply.Success and self.lastIndex() > args.PrevLogIndex + len(args.Entries):
                self.setFrom(args.PrevLogIndex + len(args.Entries) + 1, [])
                self.persist()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
