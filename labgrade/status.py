"""How far a grading is: `python -m labgrade status OUT`, while it runs or when it has stopped, from its files alone.

A line a submission, in the order of grading: how many of its trials have a record, of how many as far as is known, how
many of them failed, and the trial that runs, or why it cannot be graded. Those with all of their records are counted
only.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from labgrade.batch import Batch, count, known_submissions
from labgrade.block import STAGES, Graded
from labgrade.policy import Grading, GradingError
from labgrade.protocol import Run
from labrun.record import table

__all__ = ["status"]


def status(out: Path) -> list[str]:
    """Raises GradingError if there is no grading."""
    try:
        known = json.loads((out / "grading.json").read_text())
        grading, tests = Grading(**known["policy"]), list(known["tests"])
    except OSError as e:
        raise GradingError(f"{out / 'grading.json'}: {e.strerror}: is there a grading in {out}?") from None
    except (ValueError, KeyError, TypeError):
        raise GradingError(f"{out / 'grading.json'} is damaged: the next start of the grading writes it anew") from None
    batch = Batch([], grading, out)
    batch.tests = tests
    batch.graded = [Graded(s, out / s.name, trouble=s.reason) for s in known_submissions(out)]
    for graded in batch.graded:
        count(graded)
    runs = _is_running(out)
    counts = batch.counts()
    ended = sum(not _left(batch, graded) for graded in batch.graded)
    lines = [
        f"{out}: part {grading.parts}, {grading.trials} trials from seed {grading.seed} on, {grading.mode}, "
        f"{grading.confirm} isolated; {'running' if runs else 'no grading runs'}",
        f"{counts.done} of {counts.total} trials, {counts.passed} passed, {counts.done - counts.passed} failed; "
        f"{ended} of {len(batch.graded)} submissions are done",
    ]
    rows = [_row(batch, graded, runs) for graded in batch.graded if _left(batch, graded) or graded.trouble]
    return [*lines, *(["", *table([["submission", "trials", "failed", ""], *rows])] if rows else [])]


def _left(batch: Batch, graded: Graded) -> int:
    return sum(1 for stage in STAGES for _ in batch.left(graded, stage))


def _row(batch: Batch, graded: Graded, runs: bool) -> list[str]:
    known, passed = (sum(getattr(tally, what)() for tally in graded.tally.values()) for what in ("known", "passed"))
    trials = f"{known}/{known + _left(batch, graded)}"
    return [graded.name, trials, str(known - passed), graded.trouble or (_current(graded) if runs else "")]


def _current(graded: Graded) -> str:
    """The trial that its last process says it runs."""
    last: Any = max(graded.runs.glob("*"), default=None)
    key = Run(last).current() if last else None
    return f"{key.test}, trial {key.trial}" if key else ""


def _is_running(out: Path) -> bool:
    try:
        with (out / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
