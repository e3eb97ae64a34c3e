"""Threads go on after Kill.

killed() is never looked at. The lab's tests pass: the harness cuts the dead server off from the network. It says
which thread still ran, in a LeakWarning, and ends it.

Part: 2A
Caught by: nothing
"""

from raft import raft as base


class Raft(base.Raft):
    def killed(self):
        return False

    def Kill(self):
        pass


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
