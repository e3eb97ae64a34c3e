"""One lab test on real threads, and what a process that runs solutions must see to.

The solution is loaded afresh when the test makes its servers, and forgotten afterwards. What it draws from the module
`random` comes from the trial's seed. The harness is put back as it was, and a solution that changed it has failed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from labrun import HARNESS, solution
from labrun.evidence import Sites
from labrun.integrity import Snapshot, check_unchanged
from labrun.paper import Watch
from labrun.patience import watched
from labrun.printed import Printed
from labrun.settings import Seeds
from labwatch import RING, Journal
from raft.config import Config, LabFailure, Trial
from raft.threads import OwnLock

__all__ = ["RealTrial", "exit_refused"]

__tracebackhide__ = True


class RealTrial:
    """A trial of the lab test `test` in `file`; `out` receives the lab's lines.

    `paper`: the paper's rules are judged while it runs.
    """

    def __init__(
        self,
        what: solution.Solution,
        file: Path,
        test: str,
        seed: int,
        out: Callable[[str], None],
        *,
        paper: bool = False,
    ) -> None:
        self.solution = what
        self.file = file
        self.test = test
        self.seed = seed
        self.out = out
        self.trial: Trial | None = None  # once the test has made its servers
        self.journal: Journal | None = None  # from then on; the last RING events of it
        self.own_locks: Sequence[OwnLock] = ()  # threads that waited for themselves when it failed
        self.sites: Sites | None = None  # of its Calls, likewise
        self.watch: Watch | None = None  # with `paper`
        self._paper = paper
        self._context = contextlib.ExitStack()

    def run(self, test: Callable[[Callable[..., Config]], object]) -> None:
        """Call the test function with a `make_config`. Raises what it raises."""
        harness = Snapshot(map(importlib.import_module, HARNESS))
        with (
            self._context,
            _global_random(Seeds.solutions(self.seed, self.test)),
            watched(self.solution, self.file, lambda: self.trial),
        ):
            try:
                test(self._make_config)
                check_unchanged(harness)
            finally:
                harness.restore()
                self.own_locks = self.trial.own_locks if self.trial else ()

    def _make_config(self, *args: Any, **kwargs: Any) -> Config:
        module = self._context.enter_context(solution.loaded(self.solution))
        self.journal = Journal(time.monotonic, RING)
        self.sites = Sites(self.journal)
        self.watch = Watch.live(self.journal, self.test, virtual=False) if self._paper else None
        printed = self._context.enter_context(Printed(self.journal, threading.get_ident))
        out = printed.renewed_after(self.out)
        self.trial = Trial(module.Make, Seeds.streams(self.seed, self.test), out, self.journal)
        return self.trial.make_config(*args, **kwargs)


@contextlib.contextmanager
def _global_random(seed: str) -> Iterator[None]:
    """Let the solution's draws from the module `random` come from the seed, and leave everybody else's alone."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def exit_refused(current: Callable[[], Trial | None]) -> Iterator[None]:
    """os._exit fails the test instead of ending the process, which would lose every result, or look like success."""

    def refuse(status: int) -> NoReturn:
        failure = LabFailure(f"the solution called os._exit({status}), which would end the whole run", cause="exit")
        if trial := current():
            trial.fail_later(failure)  # also if the solution catches what is raised here
        raise failure

    modules: list[Any] = [os, sys.modules[os.name]]  # os takes it from posix or nt
    before = os._exit
    for module in modules:
        module._exit = refuse
    try:
        yield
    finally:
        for module in modules:
            module._exit = before
