"""`python -m labgrade`: grade submissions, prove the harness on its gallery of broken Rafts, hand out the lab.

Each subcommand says with --help what it takes. Exit status: 0 done, 1 the gallery was not caught as it should be, 2 a
mistake in what was asked for, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from _pytest.mark.expression import Expression

from labgrade import gallery, grades, policy
from labgrade.batch import Batch, known_seed, submissions_of
from labgrade.handout import HandoutError, handout
from labgrade.policy import Grading, GradingError
from labrun.settings import PARTS

DEFAULTS = Grading()


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (GradingError, gallery.GalleryError, HandoutError) as e:
        print(f"labgrade: {e}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labgrade", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    grade = commands.add_parser("grade", help="grade submissions", description="Grade submissions into a folder.")
    grade.set_defaults(run=_grade)
    grade.add_argument("submissions", nargs="+", metavar="SUBMISSION", help="a file, or a folder as pytest's --raft")
    grade.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where results go; the same grading started again goes on there",
    )
    grade.add_argument("--policy", type=Path, metavar="FILE", help="a TOML file with a table [tool.labgrade]")
    _add_common(grade, mode="real")
    add = grade.add_argument
    add("--timeout", type=float, metavar="S", help="for one trial: real seconds, or virtual, the processor's")
    add("--memory", type=_at_least_one, metavar="MB", help=f"for one process ({DEFAULTS.memory})")
    add("--rule", choices=get_args(policy.Rule), help=f"points only if all trials pass, or by share ({DEFAULTS.rule})")
    add("--points", action="append", type=_points, metavar="TEST=P", help=f"({policy.POINTS:g} a test)")
    add("--give-up", type=int, metavar="K", help=f"after K costly failures of a test ({DEFAULTS.give_up}; 0: never)")

    show = commands.add_parser(
        "gallery",
        help="show which broken Rafts the lab's tests catch, and how often",
        description="Run the broken Rafts of the gallery, in virtual time unless told otherwise.",
    )
    show.set_defaults(run=_gallery)
    _add_common(show, mode="sim")
    show.add_argument("--real", action="store_true", help="real threads")
    show.add_argument("--only", action="append", default=[], metavar="NAME", help="this bug; may be given again")

    out = commands.add_parser(
        "handout",
        help="make the students' tree",
        description="Write the tree that students get: the lab without solutions and without what is for staff only.",
    )
    out.set_defaults(run=_handout)
    out.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    return parser


def _add_common(parser: argparse.ArgumentParser, mode: str) -> None:
    add = parser.add_argument
    add("-m", dest="parts", metavar="PARTS", help=f"parts of the lab, as pytest takes them ({DEFAULTS.parts})")
    add("--trials", type=_at_least_one, metavar="N", help=f"of each test ({DEFAULTS.trials})")
    add("-n", dest="processes", type=_at_least_one, default=os.cpu_count() or 1, metavar="N", help="processes at once")
    add("--seed", type=int, metavar="S", help="of the first trial" + (" (drawn, and kept)" if mode == "real" else ""))
    add("--sim", action="store_const", dest="mode", const="sim", help="virtual time")
    add("--race", action="store_const", dest="mode", const="race", help="virtual time with the race detector")


def _at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1, not {text!r}")
    return int(text)


def _points(text: str) -> tuple[str, float]:
    test, _, points = text.partition("=")
    try:
        return test, float(points)
    except ValueError:
        raise argparse.ArgumentTypeError(f"TEST=P, such as TestReElection2A=20, not {text!r}") from None


def _gallery(options: argparse.Namespace) -> int:
    try:
        selects = Expression.compile(options.parts or DEFAULTS.parts)
        parts = [part for part in PARTS if selects.evaluate(lambda name, /, part=part, **_: name == part)]
    except SyntaxError as e:
        raise GradingError(f"-m {options.parts!r}: {e}") from None
    if not parts:
        raise GradingError(f"-m {options.parts!r} selects none of the parts {', '.join(PARTS)}")
    mode = "real" if options.real else options.mode or "sim"
    grading = policy.read(None, trials=options.trials, seed=options.seed, mode=mode)
    return gallery.prove(parts, grading, lambda batch: run(batch, options.processes), options.only)


def _grade(options: argparse.Namespace) -> int:
    names = ("parts", "trials", "seed", "mode", "timeout", "memory", "rule", "give_up")
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given["points"] = dict(options.points) if options.points else None
    grading = policy.read(options.policy, **given)
    if options.seed is None and grading.seed == DEFAULTS.seed:
        seed = known_seed(options.out)
        given["seed"] = random.SystemRandom().randrange(1, 2**31) if seed is None else seed
        grading = policy.read(options.policy, **given)
    submissions = submissions_of(options.submissions)
    batch = Batch(submissions, grading, options.out.absolute())
    batch.prepare()
    unknown = grading.points.keys() - set(batch.test_names())
    if unknown:
        raise GradingError(f"points: there is no test {min(unknown)} among {', '.join(batch.test_names())}")
    if run(batch, options.processes):
        print(f"stopped. The same command goes on with what is left (--out {options.out})", file=sys.stderr)
        return 130
    results = [grades.grade(batch, submission) for submission in submissions]
    grades.write(batch, results)
    print(f"{len(results)} submissions, {grading.trials} trials from seed {grading.seed} on, {grading.mode}:")
    print("\n".join(grades.closing_table(results)))
    print(f"in {options.out}: grades.csv, grades.json, and a folder for each submission")
    return 0


def run(batch: Batch, processes: int) -> bool:
    """Run a batch with a line of progress. True when Ctrl-C has stopped it."""
    line = Progress(batch)
    try:
        batch.run(processes, line.show)
    except KeyboardInterrupt:
        return True
    finally:
        line.end()
    return False


class Progress:
    """One line that says how far a grading is: rewritten on a terminal, and else a new one every ten seconds."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.total = len(batch.tests) * len(batch.submissions)
        self.began = time.monotonic()
        self.before = self._count()[0]
        self.terminal = sys.stderr.isatty()
        self.shown = self.began

    def _count(self) -> tuple[int, int]:
        """How many trials have a record, and how many of them have passed."""
        passed = [r.passed for s in self.batch.submissions for r in list(s.records.values())]
        return len(passed), sum(passed)

    def show(self, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self.shown < (0.5 if self.terminal else 10):
            return
        self.shown = now
        done, passed = self._count()
        rate = (done - self.before) / (now - self.began)
        left = f", {_minutes((self.total - done) / rate)} left" if rate and done < self.total else ""
        text = f"{done} of {self.total} trials, {passed} passed, {done - passed} failed, {rate:.1f} a second{left}"
        print(
            f"\r\x1b[K{text}" if self.terminal else text, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )

    def end(self) -> None:
        self.show(last=True)
        if self.terminal:
            print(file=sys.stderr)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _handout(options: argparse.Namespace) -> int:
    handout(options.folder)
    print(f"in {options.folder}: the students' tree. Try it there: pytest -m 2A --sim")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
