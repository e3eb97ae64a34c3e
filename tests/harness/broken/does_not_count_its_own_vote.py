"""A candidate does not count its own vote.

votes begins at 0 (Figure 2, Candidates: vote for self). As long as all servers are there nobody notices.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def startElection(self):
        super().startElection()
        self.votes -= 1


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
