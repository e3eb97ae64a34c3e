"""How the processes of players come into being: the place where a sandbox is put around each.

A player gets the connection to the judge as its stdin, a socket to it as stdout and stderr, no other open file, and a
small environment of its own. It leads a session, so that it can be killed together with what it has started.

In a sandbox every player is started by a command line of its own, as they must share nothing there. Without one they
are forked by a nursery, which is started once (labrun.isolated.nursery).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

import labgob
from labrun.isolated.nursery import ANSWER, COMMAND, END, POLL, START

# -I and -S: no environment variable, user's folder, .pth file or current folder decides what is imported. -S also saves
# a third of the time to start.
_PROGRAM = "import sys; sys.path += sys.argv[1:]; from labrun.isolated import {0}; {0}.main()"
_FOLDERS = dict.fromkeys(str(Path(os.path.abspath(str(module.__file__))).parents[1]) for module in (labgob, msgspec))


NURSERY_PATIENCE = 10.0  # s for an answer of the nursery


class Process(Protocol):
    """A player's process."""

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""

    def end(self) -> int:
        """Kill it with what it has started, if it still runs, and wait for its end; its exit status."""


class Starts(Protocol):
    """What a judge needs to have players started: a Launcher, or another that puts each into a sandbox."""

    def start(self, stdin: int, output: int) -> Process:
        """Start a player, with the connection as its stdin. Both files stay open here. Raises LauncherError."""

    def close(self) -> None:
        """All players have ended."""


class LauncherError(Exception):
    """No player can be started."""


class Launcher:
    """Starts players.

    `prefix`: the beginning of a command line that runs its rest in a sandbox. `env`: the whole environment. `cwd`: the
    folder that a player works in (default: the current one).
    """

    def __init__(
        self, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> None:
        self._prefix = prefix
        self._env = {"PATH": os.defpath, "LANG": "C.UTF-8"} if env is None else dict(env)
        self._cwd = cwd
        self._mu = threading.Lock()
        self._nursery: _Nursery | None = None

    def start(self, stdin: int, output: int) -> Process:
        """Start a player. Both files stay open here. Raises LauncherError."""
        if os.name != "posix":
            raise LauncherError(
                "servers in processes of their own (--isolate) need Linux, macOS or another POSIX system"
            )
        try:
            if self._prefix:
                return _Single(self._popen("player", stdin, output, output))
            with self._mu:
                if self._nursery is not None:
                    try:
                        return self._nursery.start(stdin, output)
                    except OSError:  # a submission has killed or stopped it: begin with another
                        self._nursery.close(0)
                self._nursery = _Nursery(self._popen)
                return self._nursery.start(stdin, output)
        except OSError as e:
            raise LauncherError(f"no process for a server could be started: {e}") from e

    def _popen(self, module: str, stdin: int, stdout: int | None, stderr: int | None) -> subprocess.Popen[bytes]:
        python = [os.path.abspath(sys.executable), "-I", "-S", "-X", "utf8", "-X", "faulthandler"]
        return subprocess.Popen(
            [*self._prefix, *python, "-c", _PROGRAM.format(module), *_FOLDERS],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )

    def close(self) -> None:
        """All players have ended."""
        if self._nursery:
            self._nursery.close()
            self._nursery = None


class _Single:
    """A process that was started by a command."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._mu = threading.Lock()

    def poll(self) -> int | None:
        with self._mu:
            return self._process.poll()

    def end(self) -> int:
        with self._mu:
            if self._process.returncode is None:  # else its number may mean another process by now
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()


class _Nursery:
    """The nursery, as the judge sees it."""

    def __init__(self, popen: Callable[[str, int, int | None, int | None], subprocess.Popen[bytes]]) -> None:
        self._mu = threading.Lock()
        self._numbers = itertools.count()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._socket.settimeout(NURSERY_PATIENCE)
            self._process = popen("nursery", theirs.fileno(), None, None)

    def start(self, stdin: int, output: int) -> Process:
        return _Forked(self, self._ask(START, 0, [stdin, output])[1])

    def command(self, command: bytes, pid: int) -> tuple[bool, int]:
        try:
            return self._ask(command, pid, [])
        except OSError:  # a submission has killed or stopped it: then do without
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            return True, -signal.SIGKILL

    def _ask(self, command: bytes, pid: int, files: list[int]) -> tuple[bool, int]:
        with self._mu:
            number = next(self._numbers)
            socket.send_fds(self._socket, [COMMAND.pack(number, command, pid)], files)
            while answer := self._socket.recv(ANSWER.size, socket.MSG_WAITALL):
                answered, ended, status = ANSWER.unpack(answer)
                if answered == number:  # else a time-out or Ctrl-C has kept somebody from its answer
                    return ended, status
            raise OSError("the process that starts them has ended")

    def close(self, patience: float = NURSERY_PATIENCE) -> None:
        self._socket.close()  # which it ends at
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Forked:
    """A process that was forked by the nursery."""

    def __init__(self, nursery: _Nursery, pid: int) -> None:
        self._nursery = nursery
        self._pid = pid
        self._mu = threading.Lock()
        self._status: int | None = None  # once known, its number may mean another process

    def poll(self) -> int | None:
        with self._mu:
            return self._ask(POLL)

    def end(self) -> int:
        with self._mu:
            status = self._ask(END)
            assert status is not None
            return status

    def _ask(self, command: bytes) -> int | None:
        if self._status is None:
            ended, status = self._nursery.command(command, self._pid)
            self._status = status if ended else None
        return self._status
