"""What a world raises when it cannot go on. Each message says what happened, in which thread, where, and what to do."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Deadlock", "Endless", "OwnLock", "SimulationError", "Spin", "Stuck", "Unsupported"]


class OwnLock(NamedTuple):
    """A thread that waits for a lock which it holds itself. Places are files, lines and functions."""

    thread: str
    lock: str
    at: tuple[str, int, str]
    held_at: tuple[str, int, str]  # where the frame stands that holds it


class SimulationError(Exception):
    """Base of the verdicts below; raised itself for wrong use of a world (blocking in one that was left)."""

    own_locks: tuple[OwnLock, ...] = ()


class Deadlock(SimulationError):
    """Every thread is blocked and no timer will wake one."""


class Endless(SimulationError):
    """Virtual time has passed the world's limit."""


class Stuck(SimulationError):
    """A call of the main thread has not returned for as long as the world has patience. `function` is its name."""

    function = ""


class Spin(SimulationError):
    """A thread ran for some seconds of real time without reaching the scheduler: no lock, no sleep, no clock."""


class Unsupported(SimulationError):
    """The program reached for something that cannot be virtual: asyncio, sockets, processes, signals."""
