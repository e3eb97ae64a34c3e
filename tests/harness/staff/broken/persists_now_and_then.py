"""Saves its state in the background, ten times a second at most.

Saving is said to be slow. What was promised in an answer must be on stable storage before it (Figure 2: updated
before responding to RPCs); a server that crashes in between breaks its word.

Part: 2C
Caught by: TestPersist32C: apply error: commit index=N server=N N != server=N N
Caught by: TestFigure82C: apply error: commit index=N server=N N != server=N N
Rate: 30%
"""

import time

import raft.raft as base


class Raft(base.Raft):
    saving = False

    def persist(self, snapshot=None):
        if snapshot is not None:
            super().persist(snapshot)
        elif not self.saving:
            self.saving = True
            self.go("saver", self.saveLater)

    def saveLater(self):
        time.sleep(0.1)
        with self.mu:
            self.saving = False
            super().persist()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
