"""Never sends a snapshot: it goes back to the first entry that it still has, and no further.

InstallSnapshot is the last thing to write. A server that missed what the leader has discarded is refused for good
(section 7).

Part: 2D
Caught by: TestSnapshotInstall2D: one(N) failed to reach agreement
Caught by: TestSnapshotInstallCrash2D: one(N) failed to reach agreement
Rate: 90%
"""

import raft.raft as base


class Raft(base.Raft):
    def snapshotSender(self, peer):
        self.nextIndex[peer] = self.lastIncludedIndex + 1
        return self.entriesSender(peer)


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
