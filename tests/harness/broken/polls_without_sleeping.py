"""The ticker looks at the clock without a pause.

A loop that never sleeps and never waits takes a processor for itself, and in Python from all other threads.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def ticker(self):
        while not self.stopped:
            pass

    stopped = False

    def Kill(self):
        self.stopped = True
        super().Kill()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
