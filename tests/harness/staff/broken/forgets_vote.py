"""Grants a second vote in the same term: it forgets for whom it voted.

Students check the candidate's term, and leave out votedFor (section 5.2; Figure 2, RequestVote, rule 2). Two leaders
in one term would take two candidates that ask at the same time, and on the lab's quick network the first has won
before the second begins; were there two, the first heartbeat would make one of them a follower before checkOneLeader
looks. No run of part 2A has shown it. The paper's rules see both votes, in about half of TestManyElections2A's trials.

Part: 2A
Caught by: nothing
"""

import raft.raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        with self.mu:
            self.followNewerTerm(args.Term)
            self.votedFor = None
        super().RequestVote(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
