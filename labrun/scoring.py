"""What the records of a test are worth: the one rule by which a grading, an autograder and a workflow give points.

By the rule "all" a test has its points when all of its trials have passed, isolated ones included; by "share", the
share of them that passed, or that of the isolated ones if it is less: they are what cannot be forged. A trial without a
record has not passed, unless `not_run` leaves it out: then those count that were run, and there must be one of each
kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labrun.record import Record

__all__ = ["POINTS", "NotRun", "Rule", "Scoring"]

Rule = Literal["all", "share"]
NotRun = Literal["fail", "leave out"]
POINTS = 10.0  # of a test for which nothing else is said


@dataclass(frozen=True)
class Scoring:
    trials: int  # that were asked for
    confirm: int  # isolated ones; 0 if these give no points
    rule: Rule = "all"
    warning_cost: float = 0.0  # the share that is lost if a trial passed with a warning
    not_run: NotRun = "fail"

    def share(self, trials: Sequence[Record], isolated: Sequence[Record]) -> float:
        """The share of its points that a test has, from 0 to 1, by its records."""
        share = self._passed(trials, self.trials)
        if self.confirm:
            share = min(share, self._passed(isolated, self.confirm))
        if self.rule == "all":
            share = float(share == 1)
        warned = any(record.passed and record.warnings for record in (*trials, *isolated))
        return share * (1 - self.warning_cost) if warned else share

    def _passed(self, records: Sequence[Record], asked: int) -> float:
        if self.not_run == "leave out":
            asked = len(records)  # those that were given up have one, and have failed
        return sum(record.passed for record in records) / asked if asked else 0.0
