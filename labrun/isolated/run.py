"""One lab test with isolated servers, for the plugin: as labrun.real and labrun.virtual are for theirs.

All trials of a session share one launcher: a Launcher, which keeps a process ready from which players are forked, or
what a plugin has given to `use` before the first trial, such as one that puts a sandbox around each. `close` ends it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

from labrun.isolated.judge import IsolatedTrial
from labrun.isolated.launcher import Launcher, Starts
from labrun.paper import Watch
from labrun.settings import Seeds
from labrun.solution import Solution
from labwatch import RING, Journal
from raft.config import Config

__all__ = ["IsolatedRun", "close", "use"]

__tracebackhide__ = True


_make: Callable[[], Starts] = Launcher


def use(make: Callable[[], Starts]) -> None:
    """Let players be started by what `make` returns."""
    global _make
    close()
    _make = make


@functools.cache
def _launcher() -> Starts:
    return _make()


def close() -> None:
    """The session is over."""
    if _launcher.cache_info().currsize:
        _launcher().close()
        _launcher.cache_clear()


class IsolatedRun:
    """A trial of a lab test; `out` receives the lab's lines; `paper`: the paper's rules are judged while it runs."""

    def __init__(
        self, what: Solution, test: str, seed: int, out: Callable[[str], None], *, paper: bool = False
    ) -> None:
        self.solution = what
        self.test = test
        self.seed = seed
        self.out = out
        self.trial: IsolatedTrial | None = None  # once the test has made its servers
        self.sites = None  # of its Calls: they are made elsewhere, and so are
        self.own_locks = ()
        self.journal: Journal | None = None  # from then on; the last RING events of it
        self.watch: Watch | None = None  # with `paper`
        self._paper = paper
        self._context = contextlib.ExitStack()

    def run(self, test: Callable[[Callable[..., Config]], object]) -> None:
        """Call the test function with a `make_config`. Raises what it raises."""
        with self._context:
            test(self._make_config)

    def _make_config(self, *args: Any, **kwargs: Any) -> Config:
        streams = Seeds.streams(self.seed, self.test)
        self.journal = Journal(time.monotonic, RING)
        self.watch = Watch.live(self.journal, self.test, virtual=False) if self._paper else None
        self.trial = self._context.enter_context(
            IsolatedTrial(self.solution, streams, self.out, _launcher(), self.journal)
        )
        return self.trial.make_config(*args, **kwargs)
