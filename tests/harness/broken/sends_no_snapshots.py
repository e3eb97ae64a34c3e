"""A leader has nothing to send to those who are far behind.

InstallSnapshot is not there yet; a follower that missed what the leader has discarded never catches up (section 7).

Part: 2D
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def snapshotSender(self, peer):
        return lambda: False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
