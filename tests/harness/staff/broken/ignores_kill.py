"""Goes on after Kill: its threads never look at killed().

Nothing needs it in a program that ends. The lab's tests cannot fail for it, as the network lets nobody hear a dead
server; its threads are reported with a LeakWarning, and take time from the tests that follow. The paper, too, says
nothing of it.

Part: 2A
Caught by: nothing
"""

import raft.raft as base


class Raft(base.Raft):
    def killed(self):
        return False


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
