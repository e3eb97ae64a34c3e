"""`gallery --hunt`: how soon a hunt finds each broken Raft of the gallery, and how soon the lab's own tests do.

Each bug is hunted in its part of the lab, with several seeds, in stories and processor time to the first failure, and
the story is made shorter. Beside that the part's own tests run in virtual time with one seed after another until one of
them fails; the virtual seconds that this takes are what Go's lab would take in real ones, as its tests wait for
timeouts. A bug that its first HOPELESS hunts do not find is left at that.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import re
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from labgrade.gallery import Bug
from labrun import TESTS, solution
from labrun.hunt.running import How
from labrun.hunt.search import Found, Hunt
from labrun.record import table
from labrun.settings import Amount
from labrun.virtual import VirtualTrial

__all__ = ["Hunted", "hunt_all", "rows"]

MOST_STORIES = 3000  # of one hunt
HOPELESS = 2
MOST_SUITES = 10  # of the lab's own tests


class Lab(NamedTuple):
    """What the lab's own tests of the part needed until one failed; or for MOST_SUITES runs of them."""

    suites: int
    cpu: float  # s
    virtual: float  # s
    failed: bool


@dataclass
class Hunted:
    bug: Bug
    lab: Lab
    found: list[Found] = field(default_factory=list)
    hunts: int = 0


def hunt_all(bugs: Sequence[Bug], seeds: Sequence[int], processes: int, show: Callable[[Hunted], None]) -> list[Hunted]:
    """Hunt each bug, in processes of their own; `show` is told of each as it ends."""
    context = multiprocessing.get_context("spawn")
    done = []
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        for hunted in pool.map(partial(_hunt, seeds=seeds), bugs):
            done.append(hunted)
            show(hunted)
    return done


def _hunt(bug: Bug, seeds: Sequence[int]) -> Hunted:
    what = solution.find(str(bug.path), bug.path.parent)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        hunted = Hunted(bug, _lab(what, bug.part))
        for seed in seeds:
            found = Hunt(How(what, bug.part), seed, Amount(stories=MOST_STORIES)).run()
            hunted.hunts += 1
            if found:
                hunted.found.append(found)
            elif hunted.hunts == HOPELESS and not hunted.found:
                break
    return hunted


def _lab(what: solution.Solution, part: str) -> Lab:
    file = TESTS / f"test_{part.lower()}.py"
    tests = re.findall(r"^def (Test\w+)\(", file.read_text(), re.MULTILINE)
    began, virtual = time.process_time(), 0.0
    for seed in range(1, MOST_SUITES + 1):
        for test in tests:
            trial = VirtualTrial(what, file, test, seed, _nobody_listens)
            failed = False
            try:
                trial.run_and_check(repeatable=False)
            except Exception:
                failed = True
            virtual += trial.trial.figures.seconds if trial.trial and trial.trial.figures else 0.0
            if failed:
                return Lab(seed, time.process_time() - began, virtual, True)
    return Lab(MOST_SUITES, time.process_time() - began, virtual, False)


def _nobody_listens(line: str, **_: Any) -> None:
    pass


HEAD = [
    ("", "", "lab's tests", "", "", "hunt", "", "", "", "", ""),
    ("bug", "part", "runs", "CPU s", "Go s", "found", "stories", "worst", "CPU s", "worst", "steps"),
]


def rows(hunted: Sequence[Hunted]) -> list[str]:
    """The table: medians, and the worst of all seeds."""
    return table([*HEAD, *map(_row, hunted)], left=2)


def _row(hunted: Hunted) -> tuple[str, ...]:
    lab, found = hunted.lab, hunted.found
    beyond = "" if lab.failed else ">"
    labs = f"{beyond}{lab.suites}", f"{beyond}{lab.cpu:.1f}", f"{beyond}{lab.virtual:.0f}"
    count = f"{len(found)} of {hunted.hunts}"
    if not found:
        return hunted.bug.name, hunted.bug.part, *labs, count, f">{MOST_STORIES}", "", "", "", ""
    stories, cpu = [f.number for f in found], [f.cpu for f in found]
    return (
        *(hunted.bug.name, hunted.bug.part, *labs, count),
        *(f"{statistics.median(stories):.0f}", str(max(stories))),
        *(f"{statistics.median(cpu):.1f}", f"{max(cpu):.1f}"),
        f"{statistics.median(f.outcome.steps for f in found):g}",
    )
