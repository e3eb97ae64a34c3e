"""Applies entries as soon as a follower has them, without waiting for the leader to commit them.

The follower takes the end of its log for its commit index, and LeaderCommit is left unread (Figure 2, AppendEntries,
rule 5). What it has applied may be overwritten by the next leader.

Part: 2B
Caught by: TestFailNoAgree2B: N committed but no majority
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        args.LeaderCommit = args.PrevLogIndex + len(args.Entries)
        super().AppendEntries(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
