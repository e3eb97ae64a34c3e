"""A server grants every vote that it is asked for.

votedFor is set but never looked at. Two leaders of one term are what Raft is there to prevent (Figure 3, Election
Safety); but when two have the same term, each steps down at the other's first heartbeat, within milliseconds, and the
lab looks every half second.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        with self.mu:
            if args.Term >= self.currentTerm:
                self.votedFor = None
        super().RequestVote(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
