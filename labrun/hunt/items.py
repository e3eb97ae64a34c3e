"""A hunt as pytest has it: an item for each part of the lab, and with xdist one in each worker.

Item k hunts with the seed of trial k. Its failure is a Record like that of any lab test; what it shows is the story as
a lab test that can be pasted into a file. The story is kept in pytest's cache, by part and solution, and tried first by
the next hunt.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labrun import settings
from labrun.hunt.running import How, Outcome, watched
from labrun.hunt.search import Found, Hunt
from labrun.hunt.stories import Step, Story, as_test
from labrun.plugin import RUN, Run
from labrun.record import NodeId, Record, cause_of, message_of
from labrun.settings import PARTS, Amount, repeat_command
from labrun.solution import SolutionError
from labrun.text import shown
from labsim import Unsupported

__all__ = ["HuntItem", "Hunts"]

__tracebackhide__ = True

SECONDS_BETWEEN_LINES = 0.5  # of progress


class Hunted(Exception):
    """A hunt has found something."""

    def __init__(self, found: Found) -> None:
        super().__init__(found.outcome.message)
        assert found.outcome.kind is not None
        self.cause = found.outcome.kind[0]


class Hunts(pytest.File):
    def collect(self) -> Iterable[pytest.Item]:
        workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
        for part in PARTS:
            for k in range(workers):
                item = HuntItem.from_parent(self, name=f"TestHunt{part}" + (f"[trial{k}]" if workers > 1 else ""))
                item.add_marker(part)
                if self.config.pluginmanager.hasplugin("timeout"):
                    item.add_marker(pytest.mark.timeout(0))  # it has a time of its own
                yield item


class HuntItem(pytest.Item):
    """The hunt for one part of the lab, in one process."""

    def runtest(self) -> None:
        self.stash[RUN] = run = HuntRun(self)
        run.run()

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Hunted):
            return self.stash[RUN].explain()  # type: ignore[attr-defined]
        if isinstance(excinfo.value, (SolutionError, Unsupported)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)


class HuntRun(Run):
    """A hunt, and once it has found something, the trial that fails."""

    def __init__(self, item: HuntItem) -> None:
        node = NodeId.parse(item.nodeid)
        assert node is not None
        self.node = node
        self.settings = s = settings.of(item.config)
        self.lines: list[str] = []
        self._item = item
        self._how = How(s.solution, node.part, s.schedule, s.race_share if s.race else None)
        self.hunt = Hunt(self._how, s.seeds.of(node.trial), s.hunt or Amount(stories=0), self._progress)
        self._shown = 0.0  # when progress was
        self.running = watched(self._how, Outcome(Story(node.part, 3, ()), self.hunt.seed))

    def run(self) -> None:
        self._out(f"Hunt ({self.node.part}): {PARTS[self.node.part]} ...")
        try:
            with _unseen():
                found = self._try_kept() or self.hunt.run()
        finally:
            self._clear_progress()
            self._out(f"  {self._figures()}")
        self._keep(found)
        if found:
            self.running = watched(self._how, found.outcome)
            with _unseen(), contextlib.suppress(Exception):
                self.running.run_and_check(repeatable=False)
            raise Hunted(found)

    # --- what was found the last time ---

    @property
    def _key(self) -> str:
        return f"lab/hunt/{self.node.part}-{zlib.crc32(str(self.settings.solution.file).encode()):08x}"

    def _try_kept(self) -> Found | None:
        cache = getattr(self._item.config, "cache", None)
        kept = cache.get(self._key, None) if cache else None
        if kept is None:
            return None
        story = Story(self.node.part, kept["servers"], tuple(Step(*step) for step in kept["steps"]))
        found = self.hunt.try_again(story, kept["seed"])
        self._out(f"  the story that failed in the last hunt {'fails again' if found else 'passes now'}")
        return found

    def _keep(self, found: Found | None) -> None:
        cache = getattr(self._item.config, "cache", None)
        if cache:
            story = found and {
                "servers": found.outcome.story.servers,
                "steps": [list(step) for step in found.outcome.story.steps],
                "seed": found.outcome.seed,
            }
            cache.set(self._key, story)

    # --- what is shown while it goes on ---

    def _figures(self) -> str:
        hunt = self.hunt
        rate = hunt.stories / hunt.hunting if hunt.hunting else 0.0
        return (
            f"{hunt.stories} stories in {hunt.hunting:.1f} s, {rate:.0f} a second; "
            f"{hunt.cpu:.1f} s of processor time; {len(hunt.states)} states"
        )

    def _progress(self, hunt: Hunt) -> None:
        now = time.monotonic()
        if now < self._shown + SECONDS_BETWEEN_LINES or not sys.__stdout__ or not sys.__stdout__.isatty():
            return
        self._shown = now
        if hunt.found:
            left = f"one fails: shortened from {hunt.found.first.steps} to {hunt.found.outcome.steps} steps"
        elif hunt.amount.stories is not None:
            left = f"{hunt.amount.stories - hunt.stories} left"
        else:
            left = f"{(hunt.amount.seconds or 0) - hunt.seconds:.0f} s left"
        rate = hunt.stories / hunt.hunting if hunt.hunting else 0.0
        self._write(f"\r\x1b[K  {hunt.stories} stories, {rate:.0f} a second, {len(hunt.states)} states, {left}")

    def _clear_progress(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        capture = self._item.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            print(text, end="", file=sys.__stdout__, flush=True)

    def _out(self, line: str) -> None:
        self.lines.append(line)
        terminal = self._item.config.pluginmanager.getplugin("lab terminal")
        if terminal is not None:
            terminal.show(line, self._item.path)

    # --- what is shown of a failure ---

    @property
    def found(self) -> Found:
        assert self.hunt.found is not None
        return self.hunt.found

    def explain(self) -> str:
        found = self.found
        if not found.number:
            return f"{found.outcome.message}\n\nin the story kept from the last hunt"
        return (
            f"{found.outcome.message}\n\n"
            f"in story {found.number}, after {found.cpu:.1f} s of processor time; "
            f"made shorter from {found.first.steps} steps to {found.outcome.steps}, in {found.runs} runs"
        )

    def sections(self) -> list[tuple[str, str]]:
        if self.hunt.found is None:
            return []
        command = shlex.join(["pytest", "test_story.py", *self.settings.repeatable])
        own = [(f"the story; in a file test_story.py it fails with: {command}", self._as_test())]
        return own + super().sections()

    def _as_test(self) -> str:
        outcome, s = self.found.outcome, self.settings
        mark = f"seed={outcome.seed}"
        if s.race:
            mark += f", race={s.race_share}"
        if s.schedule != "random":
            mark += f', schedule="{s.schedule}"'
        return as_test(outcome.story, outcome.lines, mark)

    def record(self, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None) -> Record:
        found = self.hunt.found
        enough = Amount(stories=max(1, found.number)) if found else self.settings.hunt
        return Record(
            nodeid=report.nodeid,
            test=self.node.test,
            trial=self.node.trial,
            seed=self.hunt.seed,
            mode=self.settings.mode,
            outcome="failed" if excinfo else "passed",
            cause=cause_of(excinfo.value) if excinfo else "",
            message=message_of(excinfo.value) if excinfo else "",
            causes=self.causes() if found else (),
            broken=tuple(shown(broken.message) for broken in self.rules.broken) if found and self.rules else (),
            servers=found.outcome.story.servers if found else None,
            elapsed=round(report.duration, 3),
            repeat=repeat_command(self._item.config, replace(self.settings, hunt=enough), self.node),
            lines=tuple(self.lines),
            story=self._as_test() if found else "",
        )


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """What thousands of stories print and warn of is seen when the one that fails is run as a test."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(_Nowhere()), contextlib.redirect_stderr(_Nowhere()):
        warnings.simplefilter("ignore")
        yield


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)
