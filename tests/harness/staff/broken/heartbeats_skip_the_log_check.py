"""Answers every heartbeat with success, without comparing the logs.

An AppendEntries without entries seems to be another kind of RPC. Success tells the leader that the logs agree up to
PrevLogIndex (section 5.3), and LeaderCommit then commits what the follower has there.

Part: 2B
Caught by: TestRejoin2B: apply error: commit index=N server=N N != server=N N
Caught by: TestFailAgree2B: one(N) failed to reach agreement
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        if args.Entries:
            super().AppendEntries(args, reply)
            return
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            if args.Term < self.currentTerm:
                return
            self.stepDown()
            self.resetElectionTimer()
            reply.Success = True
            if args.LeaderCommit > self.commitIndex:
                self.commitIndex = min(args.LeaderCommit, self.lastIndex())
                self.applying.notify()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
