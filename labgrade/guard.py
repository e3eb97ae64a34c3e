"""Inside a process that grades a submission: which trials it runs, and what it says of them.

labgrade.process starts pytest with `-p labgrade.guard --grading BOX`, the box of a run (labgrade.protocol).
Of the trials, those that are to do run, and all others are deselected.

What the submission can reach is the sandbox's matter (labgrade.sandbox). One thing is told better from inside: that the
submission uses the shipped Raft. In a sandbox it is hidden, and a trial that fails because of that says so. Without one
an audit hook sees it opened, and fails the trial, whether the submission swallows the PermissionError or not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from labgrade.protocol import Key, Run, Task
from labrun import HOME
from labrun.record import Record

SHIPPED = str(HOME / "raft" / "raft.")  # py, and below __pycache__


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--grading", metavar="BOX", help="(labgrade's own)")


def pytest_configure(config: pytest.Config) -> None:
    box = Path(config.getoption("--grading"))
    config.pluginmanager.register(Guard(box, Run.task(box)), "labgrade guard")


class Guard:
    """Watches the submission of one process, which starts in the submission's folder."""

    def __init__(self, box: Path, task: Task) -> None:
        self.box = box
        self.task = task
        self.folder = os.path.join(os.path.realpath(os.getcwd()), "")
        self.cheated = ""  # modules stay loaded: who has read the shipped Raft has it in later trials, too
        self._busy = False
        if not task.trusted and task.players is None:  # a judge runs no line of the submission
            sys.addaudithook(self._audit)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        todo = set(self.task.todo)
        config.hook.pytest_deselected(items=[item for item in items if Key.of(item.nodeid) not in todo])
        items[:] = [item for item in items if Key.of(item.nodeid) in todo]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        Run.begins(self.box, item.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        record: Record | None = getattr(report, "lab", None)
        if call.excinfo and getattr(call.excinfo.value.__context__, "name", "") == "raft.raft":  # of an ImportError
            self.cheated = self.cheated or "the submission used the shipped Raft: it imports raft.raft"
        if self.cheated and record is not None:
            report.outcome = "failed"
            report.lab = record.changed(outcome="failed", cause="forbidden", message=self.cheated)  # type: ignore[attr-defined]
            report.longrepr = "\n".join([self.cheated, str(report.longrepr or "")])
        elif record is not None and record.cause == "memory":
            report.lab = record.changed(message=f"MemoryError: the limit is {self.task.memory} MB")  # type: ignore[attr-defined]
        return report

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or self._busy or isinstance(args[0], int):
            return
        self._busy = True
        try:
            shipped = os.path.realpath(os.fsdecode(args[0])).replace("__pycache__" + os.sep, "").startswith(SHIPPED)
            place = self._place(sys._getframe(1)) if shipped else ""
        finally:
            self._busy = False
        if place:
            self.cheated = f"the submission used the shipped Raft, at {place}"
            raise PermissionError(self.cheated)

    def _place(self, frame: FrameType | None) -> str:
        """The line of the submission that has led here, or "" when it was not the submission."""
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self.folder):
                return f"{file.removeprefix(self.folder)}:{frame.f_lineno}"
            frame = frame.f_back
        return ""
