"""A vote is granted whatever the candidate's log has.

The second condition of RequestVote is left out (section 5.4.1). A server that was away is elected and overwrites what
was committed.

Part: 2B
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def RequestVote(self, args, reply):
        args.LastLogTerm, args.LastLogIndex = 1 << 30, 1 << 30
        super().RequestVote(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
