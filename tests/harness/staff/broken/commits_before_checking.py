"""Takes over the leader's commit index before it has compared the logs.

LeaderCommit is the last rule of AppendEntries in Figure 2, and the simplest to write. Moved before the consistency
check, it commits whatever is in the follower's log at those indices.

Part: 2B
Caught by: TestRejoin2B: apply error: commit index=N server=N N != server=N N
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 65%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        with self.mu:
            if args.Term >= self.currentTerm and args.LeaderCommit > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, self.lastIndex())
                self.applying.notify()
        super().AppendEntries(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
