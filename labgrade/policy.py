"""What a grading is: one dataclass, filled from a TOML file and the command line, which wins.

    [tool.labgrade]                       # of the file that --policy names
    parts = "2A or 2B"                    # as pytest's -m takes them
    mode = "race"                         # "real" (threads), "sim" (virtual time), "race" (and its race detector)
    trials = 50                           # of each test; they can only take points away
    confirm = 3                           # isolated trials of each test that passed all those: they give the points
    rule = "all"                          # or "share": of the trials that passed
    points = {TestReElection2A = 20}      # of a test; 10 for all others
    warning_cost = 0.1                    # the share of a test's points that a warning in it costs, 0 to 1
    hunt = 500                            # stories for each part of which a test passed: a further look (0: none)
    hunt_cost = 0.1                       # the share of a part's points that a story costs which fails, 0 to 1
    late_penalty = 0.2                    # the share of the points that a late submission loses, 0 to 1
    paper = "fail"                        # what the paper forbids: "off", "warn" (it is listed) or "fail"
    not_run = "leave out"                 # what there was no time for: what was run is what counts; or "fail"
    give_up = 3                           # costly failures of a test in a row, until its other trials fail unrun
    timeout = 60                          # s for one trial: real, or in virtual time the processor's
    memory = 1024                         # MB for one process
    sandbox = "auto"                      # or "bwrap", "user", "none"
    tests = ["test_mine.py"]              # lab tests of your own, beside this file
    assignment = "Raft, part 2A (4711)"   # its name in the gradebook of Canvas, with its number

Every key may be left out. `read` knows the fields of Grading by their names, and refuses what it does not know, what is
of another type, and what cannot be: with the key, what it may be, and what it was. `in_words` tells a student. Raises
GradingError.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from labgrade.protocol import Stage
from labgrade.sandbox import Kind
from labrun.hunt.search import MOST_RUNS
from labrun.scoring import POINTS, NotRun, Rule, Scoring

__all__ = ["Grading", "GradingError", "Mode", "Paper", "in_words", "read"]

Mode = Literal["real", "sim", "race"]
Paper = Literal["off", "warn", "fail"]

TIMEOUTS: dict[Mode, float] = {"real": 120.0, "sim": 30.0, "race": 120.0}
"""s for one trial: the lab's own limit; in virtual time the processor's, several times what the longest test takes."""


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
    memory_in_all: int = (
        0  # MB for a process with all that it has started, where the machine has little; 0 for no limit
    )
    sandbox: Kind = "auto"  # around each process that runs a submission (labgrade.sandbox)
    give_up: int = 3  # after so many costly failures of a test in a row; 0 for never
    rule: Rule = "all"  # points only if all trials pass; or by the share that passed, of the isolated ones at most
    points: dict[str, float] = field(default_factory=dict)  # of a test; POINTS for the others
    warning_cost: float = 0.0  # the share of a test's points that it loses if a trial passed with a warning; 0 to 1
    hunt: int = 0  # stories for each part of which a test has passed (labrun.hunt); 0: none
    hunt_cost: float = 0.0  # the share of its part's points that one costs which fails; 0: a human is to look at it
    late_penalty: float = 0.0  # the share of its points that a late submission loses; 0 to 1
    paper: Paper = "warn"  # a broken rule of the paper, where trials are not isolated, is listed or a failure
    not_run: NotRun = "leave out"  # what trials are that there was no time for (labgrade.autograder)
    tests: list[str] = field(default_factory=list)  # lab tests of the course's own: files, absolute
    assignment: str = ""  # its name in the gradebook of Canvas
    trusted: bool = False  # may build on the shipped Raft, as the gallery does

    @property
    def limit(self) -> float:
        """s: the timeout that holds."""
        return self.timeout or TIMEOUTS[self.mode]

    def virtual(self, stage: Stage) -> bool:
        """Whether the time of its trials is."""
        return stage == "hunt" or (stage == "trials" and self.mode != "real")

    def limit_of(self, stage: Stage) -> float:
        """s without any progress: a hunt makes none before its end, and has a second for each story and each change."""
        return self.limit + (self.hunt + MOST_RUNS if stage == "hunt" else 0)

    @property
    def scoring(self) -> Scoring:
        return Scoring(self.trials, self.confirm, self.rule, self.warning_cost, self.not_run)

    def worth(self, test: str) -> float:
        """The points of a test."""
        return self.points.get(test, POINTS)

    def marks(self) -> dict[str, Any]:
        """What its records depend on. All else may change when a grading goes on: more trials, another part."""
        names = ("seed", "mode", "limit", "memory", "give_up", "paper", "trusted")
        return {name: getattr(self, name) for name in names}


OF_FILE = [f.name for f in fields(Grading) if f.name not in ("trusted", "memory_in_all")]
HINTS = get_type_hints(Grading)
EXPECTED = {str: "text", int: "a whole number", float: "a number", dict[str, float]: "a table, such as {TestX2A = 20}"}
EXPECTED |= {list[str]: "a list of file names"}
BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("trials", "memory"), (lambda n: n >= 1, "at least 1")),
    **dict.fromkeys(("confirm", "seed", "give_up", "timeout", "hunt"), (lambda n: n >= 0, "not negative")),
    **dict.fromkeys(("warning_cost", "hunt_cost", "late_penalty"), (lambda n: 0 <= n <= 1, "from 0 to 1")),
    "points": (lambda points: all(p >= 0 for p in points.values()), "not negative"),
}


def read(policy: Path | None, **given: Any) -> Grading:
    """The policy file's values, and over them those of the command line that are not None. Raises GradingError."""
    values: dict[str, Any] = {}
    if policy is not None:
        values = {name: _converted(name, value, str(policy)) for name, value in _table(policy).items()}
        values["tests"] = [str(policy.absolute().parent / name) for name in values.get("tests", [])]
    more = given.pop("tests", None) or []
    given = {name: value for name, value in given.items() if value is not None}
    values |= {name: _converted(name, value, "the command line") for name, value in given.items()}
    grading = Grading(**values | {"tests": [*values.get("tests", []), *(str(Path(name).absolute()) for name in more)]})
    for name in grading.tests:
        path = Path(name)
        if not path.is_file() or not path.name.startswith("test_") or path.suffix != ".py":
            raise GradingError(f"tests: {name} is no file test_*.py")
    return grading


def _converted(name: str, value: Any, source: str) -> Any:
    if name not in OF_FILE:
        close = difflib.get_close_matches(name, OF_FILE, 1)
        instead = f": is it {close[0]}?" if close else f"; it may have {', '.join(OF_FILE)}"
        raise GradingError(f"{source}: [tool.labgrade] has no {name}{instead}")
    hint = HINTS[name]
    choices = get_args(hint) if getattr(hint, "__origin__", None) is Literal else ()
    expected = " or ".join(map(repr, choices)) or EXPECTED[hint]
    try:
        value = msgspec.convert(value, hint)
    except msgspec.ValidationError:
        raise GradingError(f"{source}: {name} is {expected}, not {value!r}") from None
    holds, bound = BOUNDS.get(name, (lambda _: True, ""))
    if not holds(value):
        raise GradingError(f"{source}: {name} is {bound}, not {value!r}")
    return value


def _table(policy: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(policy.read_text(encoding="utf-8"))["tool"]["labgrade"]
    except OSError as e:
        raise GradingError(f"--policy {policy}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise GradingError(f"--policy {policy}: it is no TOML: {e}") from None
    except (KeyError, TypeError):
        raise GradingError(f"--policy {policy}: there is no table [tool.labgrade]") from None
    if not isinstance(table, dict):
        raise GradingError(f"--policy {policy}: [tool.labgrade] is no table")
    return table


# -- for students ----------------------------------------------------------------------------------------------------

HOW: dict[Mode, str] = {
    "real": "on real threads",
    "sim": "in virtual time (`--sim`)",
    "race": "in virtual time with the race detector (`--race`)",
}


def in_words(g: Grading, tests: Sequence[str]) -> str:
    """How students are graded, in Markdown: for the README that they get. `tests` are those of the parts."""
    said = [f"Each test of part {g.parts} runs {_times(g.trials)} {HOW[g.mode]}"]
    if g.confirm:
        which = "all of these pass" if g.rule == "all" else "one of these passes"
        said[0] += f"; if {which}, then {_times(g.confirm)} with each server in a process of its own (`--isolate`)"
    if g.rule == "all":
        said.append("A test has its points when all of its trials pass, and none when one fails")
    else:
        said.append(
            "A test has the share of its points that passes of its trials, or of the isolated ones if it is less"
        )
    if g.warning_cost:
        what = "a warning of labgob's, or a thread that outlives Kill"
        if g.paper == "warn":
            what = f"what the Raft paper forbids, {what}"
        said.append(f"One that passes with a warning ({what}) loses {g.warning_cost:.0%} of its points")
    if g.paper == "fail":
        said.append("What the Raft paper forbids, as the messages show (`--paper`), fails a trial")
    if g.hunt and g.hunt_cost:
        said.append(
            f"Then {g.hunt} short stories are drawn for each part (`--hunt {g.hunt}x`); one that fails costs "
            f"{g.hunt_cost:.0%} of its points"
        )
    if g.late_penalty:
        said.append(f"What is handed in late loses {g.late_penalty:.0%} of its points")
    seconds = "real time" if g.mode == "real" else "processor time"
    said.append(f"A trial may take {g.limit:g} s of {seconds}, and a process {g.memory} MB of memory")
    rows = ["| test | points |", "| --- | --- |", *(f"| {test} | {g.worth(test):g} |" for test in tests)]
    return "\n".join([". ".join(said) + ".", "", *rows])


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


assert set(TIMEOUTS) == set(get_args(Mode))
