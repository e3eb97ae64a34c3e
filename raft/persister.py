"""What survives a crash: the state and the snapshot that a Raft saved last.

All methods are atomic with respect to each other. The bytes are copied in and out, so that nothing a server does to a
buffer afterwards changes what is stored. Nothing saved yet reads as b"". Part 2D relies on SaveStateAndSnapshot: a
crash must never find a trimmed log without the snapshot that covers the rest.

One who watches a server gives its persister an `Observer`, which is called after each save, before the Raft goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

Buffer = bytes | bytearray | memoryview

Observer = Callable[[bytes, bytes], None]
"""Is told what is saved now: state and snapshot."""


class Persister:
    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer
        self._mu = threading.Lock()
        self._raftstate = b""
        self._snapshot = b""

    def __repr__(self) -> str:
        return f"<Persister: {self.RaftStateSize()} bytes of state, {self.SnapshotSize()} bytes of snapshot>"

    def Copy(self, observer: Observer | None = None) -> Persister:
        """An independent persister with what is saved at this instant, watched by another observer or by none."""
        other = Persister(observer)
        with self._mu:
            other._raftstate, other._snapshot = self._raftstate, self._snapshot
        return other

    def SaveRaftState(self, state: Buffer) -> None:
        """Save the state and keep the snapshot as it is."""
        with self._mu:
            self._raftstate = bytes(state)
            saved = self._raftstate, self._snapshot
        if self._observer is not None:
            self._observer(*saved)

    def SaveStateAndSnapshot(self, state: Buffer, snapshot: Buffer | None) -> None:
        """Save both in one step; None is an empty snapshot."""
        with self._mu:
            saved = self._raftstate, self._snapshot = bytes(state), bytes(snapshot or b"")
        if self._observer is not None:
            self._observer(*saved)

    def Save(self, raftstate: Buffer, snapshot: Buffer | None) -> None:
        """SaveStateAndSnapshot, as the editions since 2023 call it. They have no way to keep the snapshot as it is."""
        self.SaveStateAndSnapshot(raftstate, snapshot)

    def ReadRaftState(self) -> bytes:
        with self._mu:
            return self._raftstate

    def ReadSnapshot(self) -> bytes:
        with self._mu:
            return self._snapshot

    def RaftStateSize(self) -> int:
        """The size of the state in bytes, 0 if nothing is saved."""
        with self._mu:
            return len(self._raftstate)

    def SnapshotSize(self) -> int:
        """The size of the snapshot in bytes, 0 if none is saved."""
        with self._mu:
            return len(self._snapshot)
