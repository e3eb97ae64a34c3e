"""Takes the longer log for the more up-to-date one, whatever its terms.

Section 5.4.1 compares the terms of the last entries first, and lengths only if those are equal. An old leader with
many entries that nobody else has wins over those who have committed less.

Part: 2B
Caught by: TestRejoin2B: apply error: commit index=N server=N N != server=N N
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            upToDate = args.LastLogIndex >= self.lastIndex()
            if args.Term == self.currentTerm and self.votedFor in (None, args.CandidateId) and upToDate:
                reply.VoteGranted = True
                self.votedFor = args.CandidateId
                self.persist()
                self.resetElectionTimer()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
