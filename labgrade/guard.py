"""Inside a process that grades a submission: which trials it runs, and what the submission must not do there.

labgrade.batch starts such a process as `python -m pytest -p labgrade.guard --grading FOLDER ...`, where FOLDER is a run
of labgrade.protocol. Of the trials, those that are to do run, and all others are deselected.

A submission that does one of these things in a trial fails it, whatever the lab's checks say, and whether it swallows
the PermissionError or not: starting a process, sending a signal, opening a socket, loading C libraries, writing,
renaming or removing files outside its own folder, and reading the shipped Raft. It is caught in the act by an audit
hook, which Python code cannot remove, when one of its frames is on the stack. That stops accidents and cheap tricks. It
is no sandbox: whoever takes the trouble finds a way out of any Python process.

The process ends with the one that has started it, which holds the other end of the pipe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from labgrade.protocol import Guarding, Run
from labrun import HOME, settings
from labrun.record import Record

MEGABYTE = 1 << 20
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>

# By audit event, what it is called. Those that name files are looked at more closely.
FORBIDDEN = {
    "ctypes.dlopen": "loaded a C library",
    "os.exec": "started a program",
    "os.fork": "started a process",
    "os.forkpty": "started a process",
    "os.kill": "sent a signal",
    "os.killpg": "sent a signal",
    "os.posix_spawn": "started a process",
    "os.spawn": "started a process",
    "os.system": "started a process",
    "pty.spawn": "started a process",
    "signal.pthread_kill": "sent a signal",
    "socket.__new__": "opened a socket",
    "subprocess.Popen": "started a process",
}
FILES = {  # the number of paths that the event begins with
    "open": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.utime": 1,
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
SHIPPED = str(HOME / "raft" / "raft")  # .py, and below __pycache__


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--grading", metavar="FOLDER", help="(labgrade's own)")


def pytest_configure(config: pytest.Config) -> None:
    run = Run(Path(config.getoption("--grading")))
    guarding = run.guarding()
    threading.Thread(
        target=_end_with_parent, args=(guarding.pipe, os._exit), name="labgrade guard", daemon=True
    ).start()
    if settings.of(config).sim:
        _limit_memory(guarding.memory)  # with real threads, each stack would count; there the parent watches
    config.pluginmanager.register(Guard(run, guarding), "labgrade guard")


def _ask_for_kill() -> None:
    """On Linux, by the system as soon as the parent is gone: a loop in C keeps all other threads from running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent(pipe: int, end: Callable[[int], object]) -> None:
    os.read(pipe, 1)
    end(1)


def _limit_memory(megabytes: int) -> None:
    """Python raises MemoryError beyond it. Where the system has no such limit, the parent's watching must do."""
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * MEGABYTE, hard))
    except (ImportError, OSError, ValueError):
        pass


class Guard:
    """Watches the submission of one process."""

    def __init__(self, run: Run, guarding: Guarding) -> None:
        self.run = run
        self.folder = os.path.join(os.path.realpath(guarding.submission), "")
        self.trusted = guarding.trusted
        self.memory = guarding.memory
        self.caught: list[str] = []
        self.cheated = ""  # modules stay loaded: who has read the shipped Raft has it in later trials, too
        self._busy = False
        self._library = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib"))
        sys.addaudithook(self._audit)

    # -- which trials --

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        todo = self.run.todo()
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in todo])
        items[:] = [item for item in items if item.nodeid in todo]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.run.begins(item.nodeid)
        self.caught.clear()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        caught = [self.cheated, *self.caught] if self.cheated else self.caught
        record: Record | None = getattr(report, "lab", None)
        if caught and record is not None:
            report.outcome = "failed"
            report.lab = record.changed(outcome="failed", cause="forbidden", message=caught[0])  # type: ignore[attr-defined]
            report.longrepr = "\n".join([*caught, str(report.longrepr or "")])
        elif record is not None and record.cause == "memory":
            report.lab = record.changed(message=f"MemoryError: the limit is {self.memory} MB")  # type: ignore[attr-defined]
        return report

    # -- what must not be done --

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        what = FORBIDDEN.get(event)
        paths = FILES.get(event)
        if (what is None and paths is None) or self._busy:
            return
        self._busy = True
        try:
            place = self._place(sys._getframe(1))
            if place and what is None:
                what = self._done_to_files(event, args, paths or 0)
        finally:
            self._busy = False
        if place and what:
            message = f"the submission {what}, at {place}: {event}{_shown(args)}"
            if "shipped" in what:
                self.cheated = message
            elif len(self.caught) < 10:
                self.caught.append(message)
            raise PermissionError(message)

    def _done_to_files(self, event: str, args: tuple[Any, ...], paths: int) -> str | None:
        for path in args[:paths]:
            if isinstance(path, int):  # an open file; how it was opened has been looked at
                continue
            full = os.path.realpath(os.fsdecode(path))
            if event == "open":
                if not self.trusted and full.replace("__pycache__" + os.sep, "").startswith(SHIPPED + "."):
                    return "used the shipped Raft"
                mode, flags = args[1], args[2]
                writes = any(c in (mode or "") for c in "wax+") or (isinstance(flags, int) and flags & WRITING)
                if not writes or full == os.devnull:
                    return None
            if not full.startswith(self.folder):
                return f"changed a file outside its folder ({full})"
        return None

    def _place(self, frame: FrameType | None) -> str:
        """The line of the submission that has led here, or "" when it was not the submission."""
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self.folder):
                return f"{file.removeprefix(self.folder)}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def _shown(args: tuple[Any, ...]) -> str:
    text = repr(args)
    return text if len(text) < 200 else f"{text[:200]}..."
