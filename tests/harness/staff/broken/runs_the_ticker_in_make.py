"""Runs its ticker in Make, which never returns.

`rf.ticker()` is called where a thread should be started, in Go a missing `go`. The first server is never done.

Part: 2A
Caught by: TestInitialElection2A: Make has not returned for N s
Rate: 95%
"""

import raft.raft as base


class Raft(base.Raft):
    """The bug is in Make."""


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.readPersist()
    rf.go("applier", rf.applier)
    rf.ticker()
    return rf
