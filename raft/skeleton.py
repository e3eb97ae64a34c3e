"""Your Raft starts here. Copy this file, and run the lab's tests on the copy:

    cp raft/skeleton.py myraft.py
    pytest -m 2A --raft myraft.py

Figure 2 of the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", extended
version) says nearly all that you need. Add fields, methods, dataclasses and threads as you like; the harness only uses
what is already here, and calls your RPC handlers through the network. This file is all that you hand in.

Part 2A asks for leader election and heartbeats:

- a leader is elected, and stays while nothing fails; when it fails, or is cut off, another one takes over within five
  seconds, even if the first votes are split;
- a leader sends no more than about ten heartbeats a second to each peer, so election timeouts must be longer than the
  paper's 150 to 300 ms, and random, or servers will vote for themselves at the same time for ever.

Parts 2B (the log), 2C (persistence) and 2D (snapshots) build on it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labrpc import ClientEnd
from raft.api import ApplyCh
from raft.persister import Persister


@dataclass
class RequestVoteArgs:
    """Arguments of the RequestVote RPC. Fields need a type and a default; a name that begins with _ is not sent."""

    # 2A: see Figure 2


@dataclass
class RequestVoteReply:
    """Answer to the RequestVote RPC."""

    # 2A: see Figure 2


# 2A: dataclasses for the AppendEntries RPC, which is also the heartbeat


def Make(peers: Sequence[ClientEnd], me: int, persister: Persister, applyCh: ApplyCh) -> Raft:
    """Make the server number `me`. Must return quickly: start threads for any long work.

    `peers` are the wires to all servers, `peers[me]` your own. `persister` holds what this server saved before it
    crashed, if it did. On `applyCh` you put an ApplyMsg (raft.api) for every committed entry (2B), or a snapshot (2D).
    """
    rf = Raft(peers, me, persister, applyCh)

    # go on from the state saved before a crash
    rf.readPersist(persister.ReadRaftState())

    # start the thread that starts elections
    threading.Thread(target=rf.ticker, name=f"server {me} ticker", daemon=True).start()

    return rf


class Raft:
    """One Raft server."""

    def __init__(self, peers: Sequence[ClientEnd], me: int, persister: Persister, applyCh: ApplyCh) -> None:
        self.mu = threading.Lock()  # hold it whenever you use what several threads share
        self.peers = peers
        self.persister = persister
        self.me = me
        self.applyCh = applyCh
        self.dead = threading.Event()  # set by Kill

        # 2A, 2B, 2C: the state that Figure 2 says a server must keep

    def GetState(self) -> tuple[int, bool]:
        """(currentTerm, whether this server believes it is the leader)."""
        term = 0
        isleader = False
        # 2A: your code
        return term, isleader

    def persist(self) -> None:
        """Save what must survive a crash (2C). Call it before anybody can learn of a change.

        w = io.BytesIO()
        e = labgob.NewEncoder(w)
        e.Encode(self.xxx)
        e.Encode(self.yyy)
        self.persister.SaveRaftState(w.getvalue())
        """

    def readPersist(self, data: bytes) -> None:
        """Restore what persist saved (2C). `data` is empty at the very first start.

        d = labgob.NewDecoder(io.BytesIO(data))
        self.xxx = d.Decode(int)
        self.yyy = d.Decode(list[LogEntry])
        """

    def Snapshot(self, index: int, snapshot: bytes) -> None:
        """The service has put everything up to and including `index` into `snapshot`: trim the log (2D)."""

    def CondInstallSnapshot(self, lastIncludedTerm: int, lastIncludedIndex: int, snapshot: bytes) -> bool:
        """Whether the service may switch to a snapshot that it got on applyCh (2D). Always saying yes is fine."""
        return True

    def RequestVote(self, args: RequestVoteArgs, reply: RequestVoteReply) -> None:
        """The handler of the RequestVote RPC: fill in `reply`. It runs in a thread of the network."""
        # 2A, 2B: your code

    def sendRequestVote(self, server: int, args: RequestVoteArgs, reply: RequestVoteReply) -> bool:
        """Ask one server for its vote. True if it answered; `reply` then holds the answer.

        Call sends a request and waits for the reply. It returns False if none came: the server may be dead or out of
        reach, or the request or the reply was lost. That can take seconds, so call it in a thread of its own, and never
        while you hold the lock. It always returns, unless the handler at the other side does not.

        Use a new reply object for every call.
        """
        return self.peers[server].Call("Raft.RequestVote", args, reply)

    def Start(self, command: Any) -> tuple[int, int, bool]:
        """The service wants agreement on `command`. Returns at once, long before it is reached, if ever.

        If this server is not the leader: (-1, currentTerm, False). Otherwise append the command to the log, begin
        agreement, and return the index at which it will be if it is committed, the current term, and True (2B).
        """
        index = -1
        term = -1
        isLeader = False
        # 2B: your code
        return index, term, isLeader

    def Kill(self) -> None:
        """The harness is done with this server. Let every loop of yours look at killed(), so that its thread ends."""
        self.dead.set()

    def killed(self) -> bool:
        return self.dead.is_set()

    def ticker(self) -> None:
        """Start an election whenever this server has not heard from a leader for a while."""
        while not self.killed():
            # 2A: is it time for an election?

            # pause for a random time, 50 to 350 ms or so; unlike time.sleep, this ends at once when Kill is called
            self.dead.wait(0.05)
