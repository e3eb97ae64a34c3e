"""Votes for candidates whose log is behind its own.

RequestVote was finished in part 2A, and the election restriction of section 5.4.1 belongs to 2B. A server that was
cut off comes back with a newer term, wins, and overwrites what is committed.

Part: 2B
Caught by: TestFailAgree2B: apply error: commit index=N server=N N != server=N N
Caught by: TestBackup2B: apply error: commit index=N server=N N != server=N N
Rate: 80%
"""

import raft.raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            if args.Term == self.currentTerm and self.votedFor in (None, args.CandidateId):
                reply.VoteGranted = True
                self.votedFor = args.CandidateId
                self.persist()
                self.resetElectionTimer()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
