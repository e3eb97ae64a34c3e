"""Lab 2, part 2D: snapshots take the place of old log entries.

The lab itself: what a student's Raft must do, and nothing else. `cfg` is raft.config.Config; its verbs raise when the
Rafts do not behave. Its services make a snapshot at every tenth index.
"""

import pytest

from raft.config import SnapShotInterval

pytestmark = getattr(pytest.mark, "2D")

MAX_LOG_SIZE = 2000  # bytes of saved Raft state, which a trimmed log stays well below


def TestSnapshotBasic2D(make_config):
    snapcommon(make_config, "Test (2D): snapshots basic")


def TestSnapshotInstall2D(make_config):
    snapcommon(make_config, "Test (2D): install snapshots (disconnect)", disconnect=True)


def TestSnapshotInstallUnreliable2D(make_config):
    banner = "Test (2D): install snapshots (disconnect+unreliable)"
    snapcommon(make_config, banner, disconnect=True, unreliable=True)


def TestSnapshotInstallCrash2D(make_config):
    snapcommon(make_config, "Test (2D): install snapshots (crash)", crash=True)


def TestSnapshotInstallUnCrash2D(make_config):
    banner = "Test (2D): install snapshots (unreliable+crash)"
    snapcommon(make_config, banner, crash=True, unreliable=True)


def snapcommon(make_config, banner, *, disconnect=False, unreliable=False, crash=False):
    """The log stays small, and a server that was away for long gets a snapshot of what it missed."""
    servers = 3
    with make_config(servers, unreliable=unreliable, snapshot=True) as cfg:
        cfg.begin(banner)

        cfg.one(randomCommand(cfg), servers, retry=True)
        leader = cfg.checkOneLeader()

        for i in range(30):
            # mostly a follower goes away; sometimes it is the leader
            victim, sender = (leader + 1) % servers, leader
            if i % 3 == 1:
                victim, sender = sender, victim

            if disconnect:
                cfg.disconnect(victim)
                cfg.one(randomCommand(cfg), servers - 1, retry=True)
            if crash:
                cfg.crash1(victim)
                cfg.one(randomCommand(cfg), servers - 1, retry=True)

            # perhaps enough commands for a snapshot
            for _ in range(someCommands(cfg)):
                cfg.rafts[sender].Start(randomCommand(cfg))

            if disconnect or crash:
                cfg.one(randomCommand(cfg), servers - 1, retry=True)
            else:
                # all have caught up, so nobody needs a snapshot from the leader
                cfg.one(randomCommand(cfg), servers, retry=True)

            size = cfg.LogSize()
            if size >= MAX_LOG_SIZE:
                cfg.fail("Log size too large", f"{size} bytes")

            # the victim returns, and may need a snapshot
            if disconnect:
                cfg.connect(victim)
                cfg.one(randomCommand(cfg), servers, retry=True)
                leader = cfg.checkOneLeader()
            if crash:
                cfg.start1(victim)
                cfg.connect(victim)
                cfg.one(randomCommand(cfg), servers, retry=True)
                leader = cfg.checkOneLeader()

        cfg.end()


def TestSnapshotAllCrash2D(make_config):
    servers = 3
    with make_config(servers, snapshot=True) as cfg:
        cfg.begin("Test (2D): crash and restart all servers")

        cfg.one(randomCommand(cfg), servers, retry=True)

        for _ in range(5):
            # perhaps enough commands for a snapshot
            for _ in range(someCommands(cfg)):
                cfg.one(randomCommand(cfg), servers, retry=True)
            index1 = cfg.one(randomCommand(cfg), servers, retry=True)

            restartAll(cfg)

            # they go on behind what they had
            index2 = cfg.one(randomCommand(cfg), servers, retry=True)
            if index2 < index1 + 1:
                cfg.fail(f"index decreased from {index1} to {index2}")

        cfg.end()


def TestSnapshotInit2D(make_config):
    """A server that restarts must not save an empty snapshot over the one it has.

    Of the editions since 2023. It is stricter than the tests of 2022: TestSnapshotAllCrash2D sees that mistake in a
    quarter of its runs.
    """
    servers = 3
    with make_config(servers, snapshot=True) as cfg:
        cfg.begin("Test (2D): snapshot initialization after crash")
        cfg.one(randomCommand(cfg), servers, retry=True)

        # enough commands for a snapshot
        for _ in range(SnapShotInterval + 1):
            cfg.one(randomCommand(cfg), servers, retry=True)

        restartAll(cfg)

        # one command, so that every server saves its state
        cfg.one(randomCommand(cfg), servers, retry=True)

        restartAll(cfg)

        # do they still have it all?
        cfg.one(randomCommand(cfg), servers, retry=True)

        cfg.end()


def restartAll(cfg):
    """All servers crash, and restart."""
    for i in range(cfg.n):
        cfg.crash1(i)
    for i in range(cfg.n):
        cfg.start1(i)
        cfg.connect(i)


def someCommands(cfg):
    """How many: 5 to 14."""
    return SnapShotInterval // 2 + cfg.rng.randrange(SnapShotInterval)


def randomCommand(cfg):
    return cfg.rng.randrange(2**63)
