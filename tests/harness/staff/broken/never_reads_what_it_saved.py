"""Saves its state, and never reads it.

persist is called in all the right places, and readPersist is still empty. Every restart begins with nothing.

Part: 2C
Caught by: TestPersist12C: apply error: commit index=N server=N N != server=N N
Caught by: TestPersist22C: apply error: commit index=N server=N N != server=N N
Caught by: TestPersist32C: apply error: commit index=N server=N N != server=N N
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    def readPersist(self):
        pass


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
