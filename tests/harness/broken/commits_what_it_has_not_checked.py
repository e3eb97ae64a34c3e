"""A follower's commitIndex goes to the end of its log.

min(leaderCommit, index of last new entry) is read as the last entry that is there (Figure 2, AppendEntries, step 5);
what stands behind the new entries may conflict with the leader's log.

Part: 2C
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        super().AppendEntries(args, reply)
        with self.mu:
            if reply.Success and min(args.LeaderCommit, self.lastIndex()) > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, self.lastIndex())
                self.applying.notify()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
