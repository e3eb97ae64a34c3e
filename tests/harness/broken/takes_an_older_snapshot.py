"""A follower installs any snapshot that it is sent.

Also one that arrives late, when the follower is further already; its state goes back (section 7, the lab's advice on
old snapshots).

Part: 2D
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def InstallSnapshot(self, args, reply):
        with self.mu:
            self.commitIndex = 0  # so that every snapshot is news
        super().InstallSnapshot(args, reply)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
