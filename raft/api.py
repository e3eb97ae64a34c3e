"""What the harness and a Raft expect of each other.

A solution is a module (or a package, or a folder with a `raft.py`) that offers `Make`:

    Make(peers, me, persister, applyCh) -> Raft

- `peers`: a list of labrpc.ClientEnd, in the same order on every server; `peers[me]` is the server itself.
- `persister`: holds what this server saved before it last crashed, if anything (raft.persister).
- `applyCh`: where the Raft puts an ApplyMsg for each committed entry, in order.

Make must return quickly and leave long work to threads. It must not wait for applyCh to be read, which begins only
after it has returned. Its RPC handlers are the methods `X(self, args, reply)` of the object it returns; a peer calls
them as "Raft.X" if the object's class is called Raft.
"""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from labrpc import ClientEnd
    from raft.persister import Persister


@dataclass
class ApplyMsg:
    """A committed command (parts 2B to 2D) or a snapshot (part 2D), on its way from a Raft to its service."""

    CommandValid: bool = False
    Command: Any = None
    CommandIndex: int = 0

    SnapshotValid: bool = False
    Snapshot: bytes = b""
    SnapshotTerm: int = 0
    SnapshotIndex: int = 0


class Raft(Protocol):
    """The methods that the harness calls on the object that Make returned. All must be safe on a killed server."""

    def GetState(self) -> tuple[int, bool]:
        """(currentTerm, whether this server believes it is the leader)."""

    def Start(self, command: Any) -> tuple[int, int, bool]:
        """Begin agreement on a command, and return at once.

        (index, term, isLeader): where the command will appear if it is ever committed, the first index being 1. A
        server that is not the leader refuses with (-1, currentTerm, False).
        """

    def Kill(self) -> None:
        """This instance is retired: its threads should end soon. The harness does not wait for them."""


class SnapshotRaft(Raft, Protocol):
    """What part 2D asks for besides."""

    def Snapshot(self, index: int, snapshot: bytes) -> None:
        """The service has stored everything up to and including `index` in `snapshot`: the log may forget it."""

    def CondInstallSnapshot(self, lastIncludedTerm: int, lastIncludedIndex: int, snapshot: bytes) -> bool:
        """Whether the service may switch to a snapshot that it received on applyCh."""


class MakeRaft(Protocol):
    """The solution's `Make`."""

    def __call__(self, peers: Sequence[ClientEnd], me: int, persister: Persister, applyCh: ApplyCh, /) -> Raft: ...


class ApplyCh:
    """Go's unbuffered channel, with the methods of queue.Queue: `put` returns once somebody has the message.

    So a Raft that holds its lock while it puts a message makes everybody wait who needs that lock. After `close`, which
    is the harness's, `put` drops its message and returns at once.
    """

    def __init__(self) -> None:
        self._mu = threading.Lock()  # guards everything below; one of the two queues is always empty
        self._senders: collections.deque[_Parcel] = collections.deque()
        self._receivers: collections.deque[_Parcel] = collections.deque()
        self._closed = False

    def put(self, msg: ApplyMsg, block: bool = True, timeout: float | None = None) -> None:
        """Hand over `msg`. Raises queue.Full if nobody took it within `timeout` seconds, or at once if not `block`."""
        with self._mu:
            if self._closed:
                return
            if self._receivers:
                self._receivers.popleft().hand_over(msg)
                return
            parcel = _Parcel(msg)
            self._senders.append(parcel)
        if not parcel.wait(timeout if block else 0):
            with self._mu:
                if parcel in self._senders:  # else it was taken at the last moment
                    self._senders.remove(parcel)
                    raise queue.Full

    def get(self) -> ApplyMsg | None:
        """The harness's end: wait for the next message; None when the channel is closed."""
        with self._mu:
            if self._closed:
                return None
            if self._senders:
                parcel = self._senders.popleft()
                parcel.hand_over(parcel.msg)
                return parcel.msg
            parcel = _Parcel(None)
            self._receivers.append(parcel)
        parcel.wait(None)
        return None if self._closed else parcel.msg

    def close(self) -> None:
        """Let go of everybody who waits at either end, now and later."""
        with self._mu:
            self._closed = True
            for parcel in (*self._senders, *self._receivers):
                parcel.hand_over(parcel.msg)
            self._senders.clear()
            self._receivers.clear()


class _Parcel:
    """A message on its way, or a place for one; and a lock, held until then, at which its sender or receiver waits."""

    def __init__(self, msg: ApplyMsg | None) -> None:
        self.msg = msg
        self._gone = threading.Lock()
        self._gone.acquire()

    def hand_over(self, msg: ApplyMsg | None) -> None:
        self.msg = msg
        self._gone.release()

    def wait(self, timeout: float | None) -> bool:
        return self._gone.acquire(timeout=-1 if timeout is None else max(0, timeout))
