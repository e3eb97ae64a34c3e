"""What a grading is: one dataclass, filled from a TOML file and the command line, which wins.

    [tool.labgrade]              # of the file that --policy names
    parts = "2A or 2B"
    trials = 50
    mode = "sim"
    points = {TestReElection2A = 20}

`read` knows every field of Grading by its name, and refuses what it does not know. Raises GradingError.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from labgrade.sandbox import Kind

__all__ = ["Grading", "GradingError", "Mode", "Rule", "read"]

Mode = Literal["real", "sim", "race"]
Rule = Literal["all", "share"]

TIMEOUTS: dict[Mode, float] = {"real": 120.0, "sim": 30.0, "race": 120.0}
"""s for one trial: the lab's own limit; in virtual time the processor's, several times what the longest test takes."""

POINTS = 10.0  # of a test for which nothing else is said


class GradingError(Exception):
    """The grading cannot begin, or go on: one message that says why, and what to do."""


@dataclass(frozen=True)
class Grading:
    """Two gradings with the same values, of the same submissions, have the same results."""

    parts: str = "2A"  # as pytest's -m takes them
    trials: int = 20  # of each test
    confirm: int = 3  # isolated trials of each test that has had no failure: these give the points
    seed: int = 0  # of the first trial
    mode: Mode = "real"
    timeout: float = 0.0  # s without any progress: real, or in virtual time the processor's; 0 for TIMEOUTS
    memory: int = 1024  # MB for one process; for an isolated trial in all, several times that
    sandbox: Kind = "auto"  # around each process that runs a submission (labgrade.sandbox)
    give_up: int = 3  # after so many costly failures of a test in a row; 0 for never
    rule: Rule = "all"  # points only if all trials pass; or by the share that passed, of the isolated ones at most
    points: dict[str, float] = field(default_factory=dict)  # of a test; POINTS for the others
    trusted: bool = False  # may build on the shipped Raft, as the gallery does

    @property
    def limit(self) -> float:
        """s: the timeout that holds."""
        return self.timeout or TIMEOUTS[self.mode]

    def marks(self) -> dict[str, Any]:
        """What its records depend on. All else may change when a grading goes on: more trials, another part."""
        return {name: getattr(self, name) for name in ("seed", "mode", "limit", "memory", "give_up", "trusted")}


def read(policy: Path | None, **given: Any) -> Grading:
    """The policy file's values, and over them those of the command line that are not None. Raises GradingError."""
    values: dict[str, Any] = {}
    if policy is not None:
        values = _table(policy)
        unknown = values.keys() - ({f.name for f in fields(Grading)} - {"trusted"})
        if unknown:
            names = ", ".join(f.name for f in fields(Grading) if f.name != "trusted")
            raise GradingError(f"{policy}: [tool.labgrade] has no {min(unknown)}; it may have {names}")
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        grading = msgspec.convert(values, Grading)
    except msgspec.ValidationError as e:
        raise GradingError(f"{policy or 'the command line'}: [tool.labgrade]: {e}") from None
    if grading.trials < 1 or grading.memory < 1 or min(grading.give_up, grading.timeout, grading.confirm) < 0:
        raise GradingError("trials and memory are at least 1; give_up, timeout and confirm not negative")
    return grading


def _table(policy: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(policy.read_text())["tool"]["labgrade"]
    except OSError as e:
        raise GradingError(f"--policy {policy}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise GradingError(f"--policy {policy}: it is no TOML: {e}") from None
    except (KeyError, TypeError):
        raise GradingError(f"--policy {policy}: there is no table [tool.labgrade]") from None
    return dict(table)


assert set(TIMEOUTS) == set(get_args(Mode))
