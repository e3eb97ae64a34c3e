"""Goes on counting from the last election: it never resets its votes.

The count is set to 0 when the server is made, and each election adds to it. A server that nobody answers votes for
itself once an election, and after two of them believes that it has a majority (section 5.2).

Part: 2A
Caught by: TestReElection2A: expected no leader among connected servers, but N claims to be leader
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def startElection(self):
        votes = self.votes
        super().startElection()
        self.votes += votes
        self.becomeLeaderIfElected()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
