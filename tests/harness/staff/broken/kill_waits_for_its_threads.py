"""Waits in Kill, with the lock held, for a thread that needs the lock.

Kill shall leave nothing behind, so it joins the ticker; and it sets a flag, so it takes the lock. The ticker cannot see
the flag, as that takes the lock too.

Part: 2A
Caught by: TestInitialElection2A: Kill has not returned for N s
Rate: 100%
"""

import threading
import time

import raft.raft as base


class Raft(base.Raft):
    def boot(self):
        self.stopped = False
        self.watcher = threading.Thread(target=self.watch, name=f"server {self.me} watcher", daemon=True)
        self.watcher.start()
        super().boot()

    def watch(self):
        while True:
            with self.mu:
                if self.stopped:
                    return
            time.sleep(0.05)

    def Kill(self):
        super().Kill()
        with self.mu:
            self.stopped = True
            self.watcher.join()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
