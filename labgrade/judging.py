"""In a judge's process, a plugin besides labgrade.guard: each server of the submission runs in the grader's sandbox.

The judge is trusted: no line of the submission is executed in it (labrun.isolated.judge). What it starts is not.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from labgrade.protocol import Run
from labgrade.sandbox import Limits, Process, Sandbox, SandboxError
from labrun.isolated import run
from labrun.isolated.launcher import LauncherError

__all__ = ["Players", "described"]


def described(sandbox: Sandbox, limits: Limits) -> dict[str, Any]:
    """For Task.players."""
    return {"sandbox": sandbox.described(), "limits": vars(limits)}


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    players = Run.task(Path(config.getoption("--grading"))).players
    assert players is not None
    sandbox, limits = Sandbox.of(players["sandbox"]), Limits(**players["limits"])
    run.use(lambda: Players(sandbox, limits, config.invocation_params.dir))


class Players:
    """Starts players, each in the sandbox. `copy` is the submission's folder."""

    def __init__(self, sandbox: Sandbox, limits: Limits, copy: Path) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._copy = copy

    def start(self, stdin: int, output: int) -> _Player:
        """As labrun.isolated.launcher.Starts says. Raises LauncherError."""
        try:
            return _Player(
                self._sandbox.start(
                    "labrun.isolated.player:of_file",
                    [str(stdin)],
                    copy=self._copy,
                    limits=self._limits,
                    pass_fds=[stdin],
                    stdout=output,
                    stderr=output,
                )
            )
        except (OSError, SandboxError) as e:
            raise LauncherError(f"no process for a server could be started: {e}") from e

    def close(self) -> None:
        pass


class _Player:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._mu = threading.Lock()  # who comes second waits until it has ended, too

    def poll(self) -> int | None:
        with self._mu:
            return self._process.status

    def end(self) -> int:
        with self._mu:
            self._process.kill()
            status = self._process.status
            assert status is not None
            return status
