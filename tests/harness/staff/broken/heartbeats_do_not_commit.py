"""Takes no commit index from a heartbeat.

An AppendEntries without entries seems to have nothing to say. But it is what tells the followers that the last entry
is committed; without it they learn that only with the next command.

Part: 2B
Caught by: TestBasicAgree2B: one(N) failed to reach agreement
Caught by: TestFailAgree2B: one(N) failed to reach agreement
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def AppendEntries(self, args, reply):
        if not args.Entries:
            args.LeaderCommit = 0
        super().AppendEntries(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
