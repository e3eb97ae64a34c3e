"""Lab 2, part 2B: agreement on a log of commands.

The lab itself: what a student's Raft must do, and nothing else. `cfg` is raft.config.Config; its verbs raise when the
Rafts do not behave.
"""

import string
import threading

import pytest

from raft.config import RaftElectionTimeout

pytestmark = getattr(pytest.mark, "2B")


def TestBasicAgree2B(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): basic agreement")

        for index in range(1, 4):
            # nothing may be applied that nobody has submitted
            count, _ = cfg.nCommitted(index)
            if count > 0:
                cfg.fail("some have committed before Start()")

            # commands get the indices 1, 2, 3
            got = cfg.one(index * 100, servers, retry=False)
            if got != index:
                cfg.fail(f"got index {got} but expected {index}")

        cfg.end()


def TestRPCBytes2B(make_config):
    """Each command is sent to each peer just once."""
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): RPC byte count")

        cfg.one(99, servers, retry=False)
        bytes_before = cfg.bytesTotal()

        # ten large commands
        sent = 0
        for index in range(2, 12):
            cmd = randomString(cfg, 5000)
            got = cfg.one(cmd, servers, retry=False)
            if got != index:
                cfg.fail(f"got index {got} but expected {index}")
            sent += len(cmd)

        # two followers need each of them; the rest is for heartbeats and everything small
        got = cfg.bytesTotal() - bytes_before
        expected = servers * sent
        if got > expected + 50000:
            cfg.fail(f"too many RPC bytes; got {got}, expected {expected}")

        cfg.end()


def TestFollowerFailure2B(make_config):
    """In the file of 2022, but switched off there; part of the lab since 2023."""
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): test progressive failure of followers")

        cfg.one(101, servers, retry=False)

        # one follower is cut off
        leader1 = cfg.checkOneLeader()
        cfg.disconnect((leader1 + 1) % servers)

        # the leader and the other follower still agree
        cfg.one(102, servers - 1, retry=False)
        cfg.sleep(RaftElectionTimeout)
        cfg.one(103, servers - 1, retry=False)

        # the other follower is cut off too
        leader2 = cfg.checkOneLeader()
        cfg.disconnect((leader2 + 1) % servers)
        cfg.disconnect((leader2 + 2) % servers)

        # the leader alone accepts a command
        index, _, ok = cfg.rafts[leader2].Start(104)
        if not ok:
            cfg.fail("leader rejected Start()")
        if index != 4:
            cfg.fail(f"expected index 4, got {index}")

        # but may not commit it
        cfg.sleep(2 * RaftElectionTimeout)
        count, _ = cfg.nCommitted(index)
        if count > 0:
            cfg.fail(f"{count} committed but no majority")

        cfg.end()


def TestLeaderFailure2B(make_config):
    """In the file of 2022, but switched off there; part of the lab since 2023."""
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): test failure of leaders")

        cfg.one(101, servers, retry=False)

        # the first leader is cut off
        leader1 = cfg.checkOneLeader()
        cfg.disconnect(leader1)

        # the others elect a new one, and agree
        cfg.one(102, servers - 1, retry=False)
        cfg.sleep(RaftElectionTimeout)
        cfg.one(103, servers - 1, retry=False)

        # the new leader is cut off too
        leader2 = cfg.checkOneLeader()
        cfg.disconnect(leader2)

        # everybody is offered a command
        for i in range(servers):
            cfg.rafts[i].Start(104)

        # which nobody may commit
        cfg.sleep(2 * RaftElectionTimeout)
        count, _ = cfg.nCommitted(4)
        if count > 0:
            cfg.fail(f"{count} committed but no majority")

        cfg.end()


def TestFailAgree2B(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): agreement after follower reconnects")

        cfg.one(101, servers, retry=False)

        # a follower is cut off
        leader = cfg.checkOneLeader()
        cfg.disconnect((leader + 1) % servers)

        # the leader and the other follower agree
        cfg.one(102, servers - 1, retry=False)
        cfg.one(103, servers - 1, retry=False)
        cfg.sleep(RaftElectionTimeout)
        cfg.one(104, servers - 1, retry=False)
        cfg.one(105, servers - 1, retry=False)

        # the follower comes back
        cfg.connect((leader + 1) % servers)

        # all of them agree, on what was before and on what is new
        cfg.one(106, servers, retry=True)
        cfg.sleep(RaftElectionTimeout)
        cfg.one(107, servers, retry=True)

        cfg.end()


def TestFailNoAgree2B(make_config):
    servers = 5
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): no agreement if too many followers disconnect")

        cfg.one(10, servers, retry=False)

        # three followers of four are cut off
        leader = cfg.checkOneLeader()
        cut = [(leader + 1) % servers, (leader + 2) % servers, (leader + 3) % servers]
        for i in cut:
            cfg.disconnect(i)

        # the leader accepts a command
        index, _, ok = cfg.rafts[leader].Start(20)
        if not ok:
            cfg.fail("leader rejected Start()")
        if index != 2:
            cfg.fail(f"expected index 2, got {index}")

        # but may not commit it
        cfg.sleep(2 * RaftElectionTimeout)
        count, _ = cfg.nCommitted(index)
        if count > 0:
            cfg.fail(f"{count} committed but no majority")

        # the followers come back
        for i in cut:
            cfg.connect(i)

        # they may have elected a leader among themselves, who knows nothing of index 2
        leader2 = cfg.checkOneLeader()
        index2, _, ok = cfg.rafts[leader2].Start(30)
        if not ok:
            cfg.fail("leader2 rejected Start()")
        if index2 < 2 or index2 > 3:
            cfg.fail(f"unexpected index {index2}")

        cfg.one(1000, servers, retry=True)

        cfg.end()


def TestConcurrentStarts2B(make_config):
    with make_config(3) as cfg:
        cfg.begin("Test (2B): concurrent Start()s")

        for attempt in range(5):
            if attempt > 0:
                cfg.sleep(3)  # let things settle
            if startFiveAtOnce(cfg):
                break
        else:
            cfg.fail("term changed too often")

        cfg.end()


def startFiveAtOnce(cfg):
    """The leader gets five commands at the same time, and none may be lost. False if the term has changed meanwhile."""
    leader = cfg.checkOneLeader()
    _, term, ok = cfg.rafts[leader].Start(1)
    if not ok:
        return False

    indices = []

    def client(number):
        index, its_term, ok = cfg.rafts[leader].Start(100 + number)
        if ok and its_term == term:
            indices.append(index)

    clients = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(5)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()

    if any(cfg.GetState(i)[0] != term for i in range(cfg.n)):
        return False

    cmds = []
    for index in indices:
        cmd = cfg.wait(index, cfg.n, term)
        if type(cmd) is not int:
            cfg.fail(f"value {cmd} is not an int")
        if cmd == -1:
            return False  # a new term: the commands may never be committed
        cmds.append(cmd)
    for number in range(5):
        if 100 + number not in cmds:
            cfg.fail(f"cmd {100 + number} missing in {goList(cmds)}")
    return True


def TestRejoin2B(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): rejoin of partitioned leader")

        cfg.one(101, servers, retry=True)

        # the leader is cut off
        leader1 = cfg.checkOneLeader()
        cfg.disconnect(leader1)

        # it takes in commands that it cannot commit
        cfg.rafts[leader1].Start(102)
        cfg.rafts[leader1].Start(103)
        cfg.rafts[leader1].Start(104)

        # a new leader commits another one at index 2
        cfg.one(103, 2, retry=True)

        # the new leader is cut off, and the old one comes back
        leader2 = cfg.checkOneLeader()
        cfg.disconnect(leader2)
        cfg.connect(leader1)
        cfg.one(104, 2, retry=True)

        # all together again
        cfg.connect(leader2)
        cfg.one(105, servers, retry=True)

        cfg.end()


def TestBackup2B(make_config):
    servers = 5
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): leader backs up quickly over incorrect follower logs")

        cfg.one(randomCommand(cfg), servers, retry=True)

        # the leader and one follower are alone
        leader1 = cfg.checkOneLeader()
        pair = [leader1, (leader1 + 1) % servers]
        trio = [(leader1 + 2) % servers, (leader1 + 3) % servers, (leader1 + 4) % servers]
        for i in trio:
            cfg.disconnect(i)

        # many commands that will not commit
        for _ in range(50):
            cfg.rafts[leader1].Start(randomCommand(cfg))
        cfg.sleep(RaftElectionTimeout / 2)

        # they go, and the other three come back
        for i in pair:
            cfg.disconnect(i)
        for i in trio:
            cfg.connect(i)

        # many commands that do commit
        for _ in range(50):
            cfg.one(randomCommand(cfg), 3, retry=True)

        # the new leader is left with one follower
        leader2 = cfg.checkOneLeader()
        other = trio[0] if leader2 != trio[0] else trio[1]
        cfg.disconnect(other)

        # many more commands that will not commit
        for _ in range(50):
            cfg.rafts[leader2].Start(randomCommand(cfg))
        cfg.sleep(RaftElectionTimeout / 2)

        # the first two come back, with the one that has all that is committed
        for i in range(servers):
            cfg.disconnect(i)
        for i in pair:
            cfg.connect(i)
        cfg.connect(other)

        # many commands that do commit, over what the two must give up
        for _ in range(50):
            cfg.one(randomCommand(cfg), 3, retry=True)

        # everybody
        for i in range(servers):
            cfg.connect(i)
        cfg.one(randomCommand(cfg), servers, retry=True)

        cfg.end()


def TestCount2B(make_config):
    servers = 3
    with make_config(servers) as cfg:
        cfg.begin("Test (2B): RPC counts aren't too high")

        # an election takes few RPCs
        cfg.checkOneLeader()
        total = rpcs(cfg)
        if total > 30 or total < 1:
            cfg.fail(f"too many or few RPCs ({total}) to elect initial leader")

        # and so does agreement
        for attempt in range(5):
            if attempt > 0:
                cfg.sleep(3)  # let things settle
            total = agreeOnTen(cfg)
            if total is not None:
                break
        else:
            cfg.fail("term changed too often")

        # and so do heartbeats
        cfg.sleep(RaftElectionTimeout)
        idle = rpcs(cfg) - total
        if idle > 3 * 20:
            cfg.fail(f"too many RPCs ({idle}) for 1 second of idleness")

        cfg.end()


def agreeOnTen(cfg):
    """Agree on ten commands with few RPCs. The RPCs since the start of the test; None if the term has changed."""
    leader = cfg.checkOneLeader()
    total1 = rpcs(cfg)

    iters = 10
    first, term, ok = cfg.rafts[leader].Start(1)
    if not ok:
        return None
    cmds = []
    for i in range(1, iters + 2):
        cmd = cfg.rng.randrange(2**31)
        cmds.append(cmd)
        index, its_term, ok = cfg.rafts[leader].Start(cmd)
        if its_term != term or not ok:
            return None
        if index != first + i:
            cfg.fail("Start() failed")

    for i in range(1, iters + 1):
        cmd = cfg.wait(first + i, cfg.n, term)
        if type(cmd) is not int or cmd != cmds[i - 1]:
            if cmd == -1:
                return None  # a new term: the command may never be committed
            cfg.fail(f"wrong value {cmd} committed for index {first + i}; expected {goList(cmds)}")

    total2 = rpcs(cfg)
    if any(cfg.GetState(i)[0] != term for i in range(cfg.n)):
        return None
    if total2 - total1 > (iters + 1 + 3) * 3:
        cfg.fail(f"too many RPCs ({total2 - total1}) for {iters} entries")
    return total2


def rpcs(cfg):
    """The RPCs that have reached all servers so far."""
    return sum(cfg.rpcCount(i) for i in range(cfg.n))


def randomCommand(cfg):
    return cfg.rng.randrange(2**63)


def randomString(cfg, n):
    return "".join(cfg.rng.choices(string.ascii_letters + string.digits, k=n))


def goList(values):
    """As the lab prints a list: [100 101 102]."""
    return f"[{' '.join(map(str, values))}]"
