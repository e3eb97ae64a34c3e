"""`python -m labgrade`: grade submissions, explain a grade, prove the harness on its broken Rafts, hand out the lab.

Each subcommand says with --help what it takes. Exit status: 0 done, 1 the gallery was not caught as it should be, 2 a
mistake in what was asked for, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from _pytest.mark.expression import Expression

from labgrade import gallery, grades, hunted, policy
from labgrade.autograder import make_zip
from labgrade.batch import Batch, Engine, Here, collect, known_seed, look
from labgrade.block import Runner
from labgrade.classroom import make_classroom
from labgrade.cluster import Cluster
from labgrade.handout import Handout, HandoutError
from labgrade.policy import Grading, GradingError
from labgrade.publish import publish
from labgrade.sandbox import Kind
from labgrade.status import status
from labrun import scoring
from labrun.settings import PARTS

DEFAULTS = Grading()
HUNTS = 10  # of each bug of the gallery
SHOWN = 3  # of the submissions that run


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
    grade.add_argument("submissions", nargs="+", metavar="SUBMISSION", help="a file, a folder, a zip or a tar")
    grade.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where results go; given again it goes on there, with late or changed submissions and more trials",
    )
    _add_policy(grade)
    _add_common(grade, mode="real")
    add = grade.add_argument
    add("--cluster", metavar="ADDRESS", help="run on Dask workers: a scheduler's address, or its scheduler file")
    add("--only", action="append", default=[], metavar="NAME", help="grade this one of them; may be given again")
    add("--confirm", type=_at_least_zero, metavar="K", help=f"isolated trials, which give points ({DEFAULTS.confirm})")
    add("--sandbox", choices=get_args(Kind), help=f"around what runs a submission ({DEFAULTS.sandbox})")
    add("--timeout", type=float, metavar="S", help="for one trial: real seconds, or virtual, the processor's")
    add("--memory", type=_at_least_one, metavar="MB", help=f"for one process ({DEFAULTS.memory})")
    add("--rule", choices=get_args(scoring.Rule), help=f"points only if all trials pass, or by share ({DEFAULTS.rule})")
    add("--points", action="append", type=_points, metavar="TEST=P", help=f"({scoring.POINTS:g} a test)")
    add("--paper", choices=get_args(policy.Paper), help=f"what the paper forbids ({DEFAULTS.paper})")
    add("--give-up", type=int, metavar="K", help=f"after K costly failures of a test ({DEFAULTS.give_up}; 0: never)")
    add("--hunt", type=_at_least_zero, metavar="N", help=f"stories, for each part that passes ({DEFAULTS.hunt}: none)")
    add("--late", action="append", default=[], metavar="NAME", help="this one came late; may be given again")

    progress = commands.add_parser(
        "status",
        help="say how far a grading is",
        description="Print how far a grading is, while it runs or when it has stopped.",
    )
    progress.set_defaults(run=_status)
    progress.add_argument("out", type=Path, metavar="OUT", help="the folder of the grading")

    tell = commands.add_parser(
        "explain",
        help="say what a student is to be told",
        description="Print what a submission's grade comes from.",
    )
    tell.set_defaults(run=_explain)
    tell.add_argument("out", type=Path, metavar="OUT", help="the folder of the grading")
    tell.add_argument("name", metavar="NAME", help="the submission's, as in grades.csv")
    tell.add_argument("test", nargs="?", default="", metavar="TEST", help="this test alone, with its log")

    show = commands.add_parser(
        "gallery",
        help="show which broken Rafts the lab's tests catch, and how often",
        description="Run the broken Rafts of the gallery, in virtual time unless told otherwise.",
    )
    show.set_defaults(run=_gallery)
    _add_common(show, mode="sim")
    show.add_argument("--real", action="store_true", help="real threads")
    show.add_argument("--only", action="append", default=[], metavar="NAME", help="this bug; may be given again")
    show.add_argument(
        "--hunt", action="store_true", help=f"how soon hunts find each, with --trials seeds ({HUNTS}), from --seed on"
    )

    out = commands.add_parser(
        "handout",
        help="make the students' tree, or bring one up to date",
        description="Write the tree that students get: the lab without solutions and without what is for staff only.",
    )
    out.set_defaults(run=_handout)
    out.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    _add_policy(out)
    out.add_argument("--part", choices=PARTS, default="2D", help="the last part of the lab that it has (2D)")
    out.add_argument(
        "--without-harness-tests",
        dest="harness",
        action="store_false",
        help="leave out the tests that judge the harness",
    )
    out.add_argument(
        "--update", action="store_true", help="bring a student's tree to this lab, and touch nothing that is theirs"
    )

    zipped = commands.add_parser(
        "gradescope",
        help="make Gradescope's autograder",
        description="Write the zip that Gradescope's Configure Autograder takes.",
    )
    zipped.set_defaults(run=_gradescope)
    zipped.add_argument("file", type=Path, metavar="FILE.zip")
    _add_policy(zipped)

    classroom = commands.add_parser(
        "classroom",
        help="make GitHub Classroom's template repository",
        description="Write the students' tree with a workflow that scores each push by the policy.",
    )
    classroom.set_defaults(run=_classroom)
    classroom.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    _add_policy(classroom)
    return parser


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", type=Path, metavar="FILE", help="a TOML file with a table [tool.labgrade]")
    parser.add_argument(
        "--with", dest="tests", action="append", default=[], metavar="FILE", help="a lab test of your own, test_*.py"
    )


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


def _at_least_zero(text: str) -> int:
    return 0 if text == "0" else _at_least_one(text)


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
    if options.hunt:
        if options.real or options.mode:
            raise GradingError("--hunt is in virtual time: leave out --real, --sim and --race")
        seeds = range(options.seed or 1, (options.seed or 1) + (options.trials or HUNTS))
        return _hunt_gallery(gallery.select(parts, options.only), seeds, options.processes)
    mode = "real" if options.real else options.mode or "sim"
    grading = policy.read(None, trials=options.trials, seed=options.seed, mode=mode)
    return gallery.prove(parts, grading, lambda batch: run(batch, options.processes), options.only)


def _hunt_gallery(bugs: Sequence[gallery.Bug], seeds: range, processes: int) -> int:
    def show(bug: hunted.Hunted) -> None:
        print(f"{bug.bug.name}: {len(bug.found)} of {bug.hunts}", file=sys.stderr, flush=True)

    found = hunted.hunt_all(bugs, seeds, processes, show)
    print("\n".join(hunted.rows(found)))
    return 0


def _grade(options: argparse.Namespace) -> int:
    names = ("parts", "trials", "seed", "mode", "timeout", "memory", "rule", "give_up", "confirm", "sandbox", "paper")
    given: dict[str, Any] = {name: getattr(options, name) for name in (*names, "tests", "hunt")}
    given["points"] = dict(options.points) if options.points else None
    grading = policy.read(options.policy, **given)
    if options.seed is None and grading.seed == DEFAULTS.seed:
        seed = known_seed(options.out)
        given["seed"] = random.SystemRandom().randrange(1, 2**31) if seed is None else seed
        grading = policy.read(options.policy, **given)
    out = options.out.absolute()
    batch = Batch(look(options.submissions, out, options.only, options.late), grading, out)
    try:
        batch.prepare()
        unknown = grading.points.keys() - set(batch.tests)
        if unknown:
            raise GradingError(f"points: there is no test {min(unknown)} among {', '.join(batch.tests)}")
        print(*batch.news, sep="\n", flush=True)
        stopped = run(batch, options.processes, options.cluster)
        if stopped:
            print(f"stopped. The same command goes on with what is left (--out {options.out})", file=sys.stderr)
            return 130
        closing = publish(batch)
    finally:
        batch.close()
    print(f"{len(closing)} submissions, {grading.trials} trials from seed {grading.seed} on, {grading.mode}:")
    print("\n".join(closing.lines()))
    print(f"in {options.out}: index.html, grades.csv, grades.json, and a folder for each submission")
    return 0


def _status(options: argparse.Namespace) -> int:
    print("\n".join(status(options.out)))
    return 0


def _explain(options: argparse.Namespace) -> int:
    print("\n".join(grades.explain(options.out, options.name, options.test)))
    return 0


def run(batch: Batch, processes: int, cluster: str | None = None) -> bool:
    """Run a batch with a line of progress. True when Ctrl-C has stopped it."""
    runner = Runner(batch.grading, batch.processes)
    engine: Engine = Cluster(cluster, runner) if cluster else Here(runner, processes)
    line = Progress(batch)
    try:
        batch.run(engine, line.show)
    except KeyboardInterrupt:
        return True
    finally:
        line.end()
    return False


class Progress:
    """One line that says how far a grading is: rewritten on a terminal, and else a new one every ten seconds."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.began = time.monotonic()
        self.before = batch.counts().done
        self.terminal = sys.stderr.isatty()
        self.shown = self.began

    def show(self, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self.shown < (0.5 if self.terminal else 10):
            return
        self.shown = now
        done, passed, total = self.batch.counts()
        rate = (done - self.before) / max(now - self.began, 0.001)
        text = f"{done} of {total} trials, {passed} passed, {done - passed} failed, {rate:.1f} a second"
        if rate and done < total:
            text += f", {_minutes((total - done) / rate)} left"
        if self.batch.current:
            text += f"; now {', '.join(self.batch.current[:SHOWN])}"
        if self.terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
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
    grading = policy.read(options.policy, tests=options.tests)
    names = collect(grading) if options.policy else []
    told = grading if options.policy else None
    made = Handout(options.part, list(map(Path, grading.tests)), options.harness, told, names)
    print("\n".join(made.update(options.folder) if options.update else made.make(options.folder)))
    return 0


def _gradescope(options: argparse.Namespace) -> int:
    grading = policy.read(options.policy, tests=options.tests)
    collect(grading)
    make_zip(options.file, grading)
    print(f"{options.file}: upload it under Configure Autograder")
    return 0


def _classroom(options: argparse.Namespace) -> int:
    grading = policy.read(options.policy, tests=options.tests)
    print("\n".join(make_classroom(options.folder, grading, collect(grading))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
