"""Lab 2, part 2C: what was agreed survives crashes, and a network at its worst.

The lab itself: what a student's Raft must do, and nothing else. `cfg` is raft.config.Config; its verbs raise when the
Rafts do not behave.
"""

import threading
import time

import pytest

from raft.config import RaftElectionTimeout

pytestmark = getattr(pytest.mark, "2C")


def TestPersist12C(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2C): basic persistence")

        cfg.one(11, servers, retry=True)

        # all crash and restart
        for i in range(servers):
            cfg.start1(i)
        for i in range(servers):
            cfg.disconnect(i)
            cfg.connect(i)

        cfg.one(12, servers, retry=True)

        # the leader crashes and restarts
        leader1 = cfg.checkOneLeader()
        cfg.disconnect(leader1)
        cfg.start1(leader1)
        cfg.connect(leader1)

        cfg.one(13, servers, retry=True)

        # a leader misses an agreement, and restarts
        leader2 = cfg.checkOneLeader()
        cfg.disconnect(leader2)
        cfg.one(14, servers - 1, retry=True)
        cfg.start1(leader2)
        cfg.connect(leader2)

        # it must have caught up before the next one goes
        cfg.wait(4, servers, -1)

        # a follower misses an agreement, and restarts
        follower = (cfg.checkOneLeader() + 1) % servers
        cfg.disconnect(follower)
        cfg.one(15, servers - 1, retry=True)
        cfg.start1(follower)
        cfg.connect(follower)

        cfg.one(16, servers, retry=True)

        cfg.end()


def TestPersist22C(make_config):
    servers = 5
    with make_config(servers) as cfg:
        cfg.begin("Test (2C): more persistence")

        cmd = 10
        for _ in range(5):
            cfg.one(cmd := cmd + 1, servers, retry=True)

            # two followers miss an agreement
            leader = cfg.checkOneLeader()
            cfg.disconnect((leader + 1) % servers)
            cfg.disconnect((leader + 2) % servers)
            cfg.one(cmd := cmd + 1, servers - 2, retry=True)

            # the three that were there go
            cfg.disconnect(leader)
            cfg.disconnect((leader + 3) % servers)
            cfg.disconnect((leader + 4) % servers)

            # the two restart, and are too few
            cfg.start1((leader + 1) % servers)
            cfg.start1((leader + 2) % servers)
            cfg.connect((leader + 1) % servers)
            cfg.connect((leader + 2) % servers)
            cfg.sleep(RaftElectionTimeout)

            # with a third they go on, from what only the third has seen
            cfg.start1((leader + 3) % servers)
            cfg.connect((leader + 3) % servers)
            cfg.one(cmd := cmd + 1, servers - 2, retry=True)

            # the rest comes back as it was
            cfg.connect((leader + 4) % servers)
            cfg.connect(leader)

        cfg.one(1000, servers, retry=True)

        cfg.end()


def TestPersist32C(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2C): partitioned leader and one follower crash, leader restarts")

        cfg.one(101, servers, retry=True)

        # one follower misses an agreement
        leader = cfg.checkOneLeader()
        cfg.disconnect((leader + 2) % servers)
        cfg.one(102, 2, retry=True)

        # the two that took part crash; the leader restarts, and meets the one that did not
        cfg.crash1(leader)
        cfg.crash1((leader + 1) % servers)
        cfg.connect((leader + 2) % servers)
        cfg.start1(leader)
        cfg.connect(leader)
        cfg.one(103, 2, retry=True)

        # the other one restarts
        cfg.start1((leader + 1) % servers)
        cfg.connect((leader + 1) % servers)
        cfg.one(104, servers, retry=True)

        cfg.end()


def TestFigure82C(make_config):
    """The scenario of Figure 8 in the extended Raft paper, over and over.

    Each round crashes the leader, if there is one, mostly very soon after it was given a command, so that it may have
    sent it to nobody or to few. Servers restart when fewer than three are left. A Raft that commits entries of earlier
    terms by counting replicas will lose one that some server has applied.
    """
    servers = 5
    with make_config(servers) as cfg:
        cfg.begin("Test (2C): Figure 8")

        cfg.one(randomCommand(cfg), 1, retry=True)

        up = servers
        for _ in range(1000):
            # every server is offered a command
            leader = None
            for i in range(servers):
                if cfg.rafts[i] is not None:
                    _, _, ok = cfg.rafts[i].Start(randomCommand(cfg))
                    if ok:
                        leader = i

            pauseAWhile(cfg)

            # the leader crashes
            if leader is not None:
                cfg.crash1(leader)
                up -= 1

            # a majority may not be left; try to restart one
            if up < 3:
                i = cfg.rng.randrange(servers)
                if cfg.rafts[i] is None:
                    cfg.start1(i)
                    cfg.connect(i)
                    up += 1

        # everybody
        for i in range(servers):
            if cfg.rafts[i] is None:
                cfg.start1(i)
                cfg.connect(i)

        cfg.one(randomCommand(cfg), servers, retry=True)

        cfg.end()


def TestUnreliableAgree2C(make_config):
    servers = 5
    with make_config(servers, unreliable=True) as cfg:
        cfg.begin("Test (2C): unreliable agreement")

        # five agreements at a time, and the next five before these are all there
        clients = []
        for iters in range(1, 50):
            for j in range(4):
                client = threading.Thread(target=cfg.one, args=(100 * iters + j, 1, True), daemon=True)
                clients.append(client)
                client.start()
            cfg.one(iters, 1, retry=True)

        cfg.setunreliable(False)
        for client in clients:
            client.join()

        cfg.one(100, servers, retry=True)

        cfg.end()


def TestFigure8Unreliable2C(make_config):
    """Figure 8 on a network that delays, drops and reorders, with leaders cut off instead of crashed."""
    servers = 5
    with make_config(servers, unreliable=True) as cfg:
        cfg.begin("Test (2C): Figure 8 (unreliable)")

        cfg.one(cfg.rng.randrange(10000), 1, retry=True)

        up = servers
        for iters in range(1000):
            if iters == 200:
                cfg.setlongreordering(True)

            # every server is offered a command, also those that lead nobody any more
            leader = None
            for i in range(servers):
                _, _, ok = cfg.rafts[i].Start(cfg.rng.randrange(10000))
                if ok and cfg.connected[i]:
                    leader = i

            pauseAWhile(cfg)

            # the leader is cut off, every other time
            if leader is not None and cfg.rng.randrange(1000) < 500:
                cfg.disconnect(leader)
                up -= 1

            # a majority may not be left; try to bring one back
            if up < 3:
                i = cfg.rng.randrange(servers)
                if not cfg.connected[i]:
                    cfg.connect(i)
                    up += 1

        # everybody is back, and the network is as bad as before
        for i in range(servers):
            if not cfg.connected[i]:
                cfg.connect(i)

        cfg.one(cfg.rng.randrange(10000), servers, retry=True)

        cfg.end()


def TestReliableChurn2C(make_config):
    internalChurn(make_config, "Test (2C): churn", unreliable=False)


def TestUnreliableChurn2C(make_config):
    internalChurn(make_config, "Test (2C): unreliable churn", unreliable=True)


def internalChurn(make_config, banner, *, unreliable):
    """Servers come and go while clients submit commands; what a client saw committed must be there in the end."""
    servers = 5
    with make_config(servers, unreliable=unreliable) as cfg:
        cfg.begin(banner)

        # three clients
        stop = threading.Event()
        results = [None, None, None]  # what each saw committed; None until it has ended well

        def client(me):
            values = []
            while not stop.is_set() and not cfg.checkFinished():
                # everybody who is up is offered a command
                x = randomCommand(cfg)
                index = -1
                for i in range(servers):
                    rf = cfg.raft(i)
                    if rf is not None:
                        index1, _, ok = rf.Start(x)
                        if ok:
                            index = index1

                if index == -1:
                    time.sleep((79 + 17 * me) / 1000)
                    continue

                # perhaps it is committed soon; the leader may be gone, so do not wait for long
                for ms in (10, 20, 50, 100, 200):
                    count, cmd = cfg.nCommitted(index)
                    if count > 0:
                        if type(cmd) is not int:
                            cfg.fail("wrong command type")
                        if cmd == x:
                            values.append(x)
                        break
                    time.sleep(ms / 1000)
            results[me] = values

        clients = [threading.Thread(target=client, args=(me,), daemon=True) for me in range(3)]
        for thread in clients:
            thread.start()

        for _ in range(20):
            if cfg.rng.randrange(1000) < 200:
                cfg.disconnect(cfg.rng.randrange(servers))

            if cfg.rng.randrange(1000) < 500:
                i = cfg.rng.randrange(servers)
                if cfg.rafts[i] is None:
                    cfg.start1(i)
                cfg.connect(i)

            if cfg.rng.randrange(1000) < 200:
                i = cfg.rng.randrange(servers)
                if cfg.rafts[i] is not None:
                    cfg.crash1(i)

            # often enough for changes to overlap, seldom enough for some agreement between them
            cfg.sleep(RaftElectionTimeout * 0.7)

        # everybody is back
        cfg.sleep(RaftElectionTimeout)
        cfg.setunreliable(False)
        for i in range(servers):
            if cfg.rafts[i] is None:
                cfg.start1(i)
            cfg.connect(i)

        # the clients end, and say what they saw
        stop.set()
        for thread in clients:
            thread.join()
        cfg.check()
        if None in results:
            cfg.fail("client failed")
        values = [value for result in results for value in result]

        cfg.sleep(RaftElectionTimeout)

        # it must be what all servers have
        last = cfg.one(randomCommand(cfg), servers, retry=True)
        really = set()
        for index in range(1, last + 1):
            cmd = cfg.wait(index, servers, -1)
            if type(cmd) is not int:
                cfg.fail("not an int")
            really.add(cmd)
        lost = [value for value in values if value not in really]
        if lost:
            cfg.fail("didn't find a value", f"clients saw {lost} committed")

        cfg.end()


def pauseAWhile(cfg):
    """Mostly too short for anything to be agreed on, but not always."""
    if cfg.rng.randrange(1000) < 100:
        cfg.sleep(cfg.rng.randrange(500) / 1000)
    else:
        cfg.sleep(cfg.rng.randrange(13) / 1000)


def randomCommand(cfg):
    return cfg.rng.randrange(2**63)
