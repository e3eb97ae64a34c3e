"""`python -m labgrade`: grade submissions, prove the harness on its gallery of broken Rafts, hand out the lab."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from labgrade import gallery, grades
from labgrade.batch import Batch, GradingError, Settings, known_seed, submissions_of
from labgrade.handout import HandoutError, handout

TIMEOUTS = {
    "real": 120.0,
    "sim": 15.0,
    "race": 60.0,
}  # s: the lab's own limit; several times what the longest test takes

USAGE = """\
python -m labgrade SUBMISSION... --out DIR [options]
       python -m labgrade --gallery [options]
       python -m labgrade handout DIR"""


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["handout"]:
        return _handout(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.gallery:
            return _gallery(options)
        if not options.submissions or options.out is None:
            parser.error("which submissions are to be graded, and into which --out DIR?")
        return _grade(options)
    except (GradingError, gallery.GalleryError) as e:
        print(f"labgrade: {e}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labgrade", usage=USAGE, description=__doc__)
    add = parser.add_argument
    add("submissions", nargs="*", metavar="SUBMISSION", help="a file, or a folder as --raft of pytest takes it")
    add("--out", type=Path, metavar="DIR", help="where results go; the same grading started again goes on there")
    add("-m", dest="parts", default="2A", metavar="PARTS", help="parts of the lab, as pytest takes them (2A)")
    add("--trials", type=_at_least_one, default=20, metavar="N", help="of each test (20)")
    add("-n", dest="processes", type=_at_least_one, default=os.cpu_count() or 1, metavar="N", help="processes at once")
    add("--seed", type=int, metavar="S", help="of the first trial (drawn, and kept in DIR)")
    add("--sim", action="store_true", help="virtual time")
    add("--race", action="store_true", help="virtual time with the race detector")
    add("--timeout", type=float, metavar="S", help="for one trial: real seconds (120), or virtual, the processor's")
    add("--memory", type=_at_least_one, default=1024, metavar="MB", help="for one process (1024)")
    add("--rule", choices=["all", "share"], default="all", help="points only if all trials pass (all), or by share")
    add("--points", action="append", type=_points, default=[], metavar="TEST=P", help=f"({grades.POINTS:g} a test)")
    add("--give-up", type=int, default=3, metavar="K", help="after K costly failures of a test in a row (3; 0: never)")
    add(
        "--gallery", action="store_true", help="show which broken Rafts of the gallery the lab's tests catch, how often"
    )
    return parser


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
    parts = [part for part in ("2A", "2B", "2C", "2D") if part in options.parts] if options.parts else ["2A"]
    seed = options.seed or 0

    def settings(part: str) -> Settings:
        return _settings(options, part, seed, mode="sim", trusted=True)

    return gallery.prove(parts, settings, lambda batch: run(batch, options.processes))


def _settings(options: argparse.Namespace, parts: str, seed: int, mode: str, trusted: bool = False) -> Settings:
    return Settings(
        parts=parts,
        trials=options.trials,
        seed=seed,
        mode=mode,
        timeout=options.timeout or TIMEOUTS[mode],
        memory=options.memory,
        give_up=options.give_up,
        trusted=trusted,
    )


def _grade(options: argparse.Namespace) -> int:
    seed = options.seed
    if seed is None:
        seed = known_seed(options.out)
    if seed is None:
        seed = random.SystemRandom().randrange(2**31)
    mode = "race" if options.race else "sim" if options.sim else "real"
    settings = _settings(options, options.parts, seed, mode)
    submissions = submissions_of(options.submissions)
    batch = Batch(submissions, settings, options.out.absolute())
    batch.prepare()
    points = dict(options.points)
    unknown = points.keys() - set(batch.test_names())
    if unknown:
        raise GradingError(f"--points: there is no test {min(unknown)} among {', '.join(batch.test_names())}")
    if run(batch, options.processes):
        print(f"stopped. The same command goes on with what is left (--out {options.out})", file=sys.stderr)
        return 130
    results = [grades.grade(batch, submission, points, options.rule) for submission in submissions]
    grades.write(batch, results, options.rule)
    print(f"{len(results)} submissions, {settings.trials} trials from seed {settings.seed} on, {settings.mode}:")
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
        records = [r["outcome"] for s in self.batch.submissions for r in list(s.records.values())]
        return len(records), records.count("passed")

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


def _handout(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m labgrade handout DIR", file=sys.stderr)
        return 2
    try:
        handout(Path(arguments[0]))
    except HandoutError as e:
        print(f"labgrade: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
