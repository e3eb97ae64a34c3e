"""Lab 2, part 2A: leader election and heartbeats.

The lab itself: what a student's Raft must do, and nothing else. `cfg` is raft.config.Config; its verbs raise when the
Rafts do not behave.
"""

import pytest

from raft.config import RaftElectionTimeout

pytestmark = getattr(pytest.mark, "2A")


def TestInitialElection2A(make_config):
    with make_config(3) as cfg:
        cfg.begin("Test (2A): initial election")

        # is a leader elected?
        cfg.checkOneLeader()

        # wait a bit, so that followers learn of the election; then all must be in one term
        cfg.sleep(0.05)
        term1 = cfg.checkTerms()
        if term1 < 1:
            cfg.fail(f"term is {term1}, but should be at least 1")

        # do the leader and the term stay as they are while no network fails?
        cfg.sleep(2 * RaftElectionTimeout)
        term2 = cfg.checkTerms()
        if term1 != term2:
            cfg.print("warning: term changed even though there were no failures")

        # there is still a leader
        cfg.checkOneLeader()

        cfg.end()


def TestReElection2A(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2A): election after network failure")

        leader1 = cfg.checkOneLeader()

        # the leader is cut off: the others elect a new one
        cfg.disconnect(leader1)
        cfg.checkOneLeader()

        # the old leader comes back: that must not disturb the new one, and the old one follows
        cfg.connect(leader1)
        leader2 = cfg.checkOneLeader()

        # without a quorum, nobody may be elected
        cfg.disconnect(leader2)
        cfg.disconnect((leader2 + 1) % servers)
        cfg.sleep(2 * RaftElectionTimeout)
        cfg.checkNoLeader()

        # a quorum again: it elects a leader
        cfg.connect((leader2 + 1) % servers)
        cfg.checkOneLeader()

        # the last server comes back, and there is still one leader
        cfg.connect(leader2)
        cfg.checkOneLeader()

        cfg.end()


def TestManyElections2A(make_config):
    servers = 7
    with make_config(servers) as cfg:
        cfg.begin("Test (2A): multiple elections")

        cfg.checkOneLeader()

        for _ in range(9):
            # three servers, perhaps the same one twice, are cut off
            cut = [cfg.rng.randrange(servers) for _ in range(3)]
            for i in cut:
                cfg.disconnect(i)

            # the leader is among those left, or they elect a new one
            cfg.checkOneLeader()

            for i in cut:
                cfg.connect(i)

        cfg.checkOneLeader()

        cfg.end()
