"""Sleeps with its lock held, so that it hears nobody meanwhile.

The ticker takes the lock for all that it does, and its sleep is part of that. Handlers and GetState wait for the
lock; when they get it, the heartbeat is old and the next election has begun.

Part: 2A
Caught by: TestManyElections2A: expected one leader, got none
Caught by: TestInitialElection2A: servers disagree on term
Rate: 90%
"""

import random
import time

import raft.raft as base
from raft.raft import ELECTION_TIMEOUT, HEARTBEAT, Role


class Raft(base.Raft):
    def ticker(self):
        while not self.killed():
            with self.mu:
                if self.role is Role.LEADER:
                    self.broadcast()
                    time.sleep(HEARTBEAT)
                else:
                    time.sleep(random.uniform(*ELECTION_TIMEOUT))
                    if time.monotonic() >= self.electionDue:
                        self.startElection()


def Make(peers, me, persister, applyCh):
    rf = Raft(peers, me, persister, applyCh)
    rf.boot()
    return rf
