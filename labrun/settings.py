"""What the command line and the ini file say about the lab, the seeds of its trials, and the command that repeats one.

The plugin lies in environments in which other projects are tested, too. So its options are added late (`add_options`),
when everybody else has added theirs, and an option name that somebody has taken is left to them. Nothing is read until
`asked` says that an option of ours was given, or a lab test has been collected; then `of` reads all of it, once.

Raises pytest.UsageError for values that cannot be, and for an option that would have no effect in the run at hand.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from labrun import HOME, solution
from labrun.record import Mode, NodeId, Record
from labsim.scheduler import Schedule

__all__ = [
    "OPTIONS",
    "PARTS",
    "RACE_SHARE",
    "Amount",
    "Seeds",
    "Settings",
    "add_options",
    "asked",
    "of",
    "of_story",
    "repeat_command",
]

PARTS = {
    "2A": "leader election",
    "2B": "log replication",
    "2C": "persistence",
    "2D": "log compaction",
}
RACE_SHARE = 0.02  # finds in twenty seeds what is to be found, and costs little
SEEDS = 2**31
CACHED_SEED, CACHED_FAILURES = "lab/seed", "lab/failed"


# --- values --------------------------------------------------------------------------------------------------------


def at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise pytest.UsageError(f"--trials takes a whole number of at least 1, not {text!r}")
    return int(text)


def _seed(text: str) -> int | str:
    if text in ("last", "failed"):
        return text
    if not (text.isascii() and text.isdigit()):
        raise pytest.UsageError(f"--seed takes a whole number, 'last' or 'failed', not {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise pytest.UsageError(f"--race-share takes a number from 0 to 1, not {text!r}")
    return share


class Amount(NamedTuple):
    """How much to hunt: one of the two is None."""

    seconds: float | None = None  # of real time
    stories: int | None = None

    @property
    def word(self) -> str:
        """As it stands on the command line."""
        return f"{self.seconds:g}" if self.stories is None else f"{self.stories}x"

    @classmethod
    def parse(cls, text: str) -> Amount | None:
        """Seconds, as in "60", or stories, as in "500x". None for what is neither."""
        found = re.fullmatch(r"(?P<stories>\d{1,9})x|(?P<seconds>\d{1,9}(\.\d+)?)", text, re.ASCII)
        if not found or not float(found["stories"] or found["seconds"]):
            return None
        return cls(stories=int(found["stories"])) if found["stories"] else cls(seconds=float(found["seconds"]))


DEFAULT_AMOUNT = "30"


def _amount(text: str) -> Amount:
    amount = Amount.parse(text)
    if amount is None:
        raise pytest.UsageError(f"--hunt takes seconds (60) or a number of stories (500x), not {text!r}")
    return amount


RAFT_HELP = "the solution: a file, a folder or a dotted module that offers Make"
TRIALS_HELP = "run every lab test N times, each with a seed of its own"
FLAG: dict[str, Any] = {"action": "store_true"}

OPTIONS: dict[str, dict[str, Any]] = {
    "--raft": {"metavar": "WHAT", "help": f"{RAFT_HELP} (default: the ini setting raft)"},
    "--trials": {
        "metavar": "N",
        "type": at_least_one,
        "help": f"{TRIALS_HELP} (default: the ini setting trials)",
    },
    "--seed": {
        "metavar": "S",
        "type": _seed,
        "help": "the seed of the first trial (the next ones count up from it); 'last' for the previous run's, 'failed' "
        "for the trials that failed in it (default: drawn afresh)",
    },
    "--sim": {**FLAG, "help": "run lab tests in deterministic virtual time instead of real threads"},
    "--sim-check": {
        **FLAG,
        "help": "run each lab test twice in virtual time, in two processes, and fail if they differ in any event",
    },
    "--isolate": {
        **FLAG,
        "help": "run lab tests in real time with each server in a process of its own, judged from outside",
    },
    "--race": {
        **FLAG,
        "help": "run lab tests in virtual time and look for data races of the solution; a race fails the test",
    },
    "--race-share": {
        "metavar": "P",
        "type": _share,
        "help": "with --race: at which share of the accesses it watches another thread goes first "
        f"(default: {RACE_SHARE})",
    },
    "--schedule": {
        "choices": get_args(Schedule),
        "help": "in virtual time, whether the next thread is drawn evenly ('random') or has priority ('pct') "
        "(default: random)",
    },
    "--paper": {
        **FLAG,
        "help": "also fail a test in which a rule of the Raft paper is broken, as its messages show",
    },
    "--columns": {
        **FLAG,
        "help": "of a failing test, show what happened: a column for each server, its messages, roles and prints",
    },
    "--hunt": {
        "metavar": "T",
        "nargs": "?",
        "const": DEFAULT_AMOUNT,
        "help": "in place of the lab's tests, search for a short one that fails, in virtual time: for T seconds, or T "
        f"stories as in 500x (default: {DEFAULT_AMOUNT}). Implies --paper",
    },
    "--picture": {
        **FLAG,
        "help": "open the picture of the test that fails in the browser, or of one that passes if none fails",
    },
    "--report": {
        "metavar": "DIR",
        "help": "write results.json, and the log and the picture of each failing trial, into DIR",
    },
}

_TAKEN = pytest.StashKey[list[str]]()  # option names that somebody else has
_SETTINGS = pytest.StashKey["Settings"]()


def add_options(config: pytest.Config, parser: pytest.Parser) -> None:
    """Add what nobody has taken. To be called when all other plugins and conftest.py files have added theirs."""
    groups = [parser._anonymous, *parser._groups]
    taken = {name for group in groups for option in group.options for name in option.names()}
    group = parser.getgroup("lab", "the Raft lab")
    for name, attributes in OPTIONS.items():
        if name not in taken:
            group.addoption(name, dest=_dest(name), **attributes)
    config.stash[_TAKEN] = [name for name in OPTIONS if name in taken]
    for ini, about, default in (
        ("raft", f"{RAFT_HELP}, relative to the ini file", ""),
        ("trials", TRIALS_HELP, "1"),
    ):
        if ini not in parser._inidict:
            parser.addini(ini, about, default=default)


def _dest(option: str) -> str:
    return "lab_" + option.strip("-").replace("-", "_")


def given(config: pytest.Config, option: str) -> Any:
    """The value of an option of ours; None if it was not given, or the name is somebody else's."""
    return getattr(config.option, _dest(option), None) or None


def asked(config: pytest.Config) -> bool:
    """Whether an option of ours has been given."""
    return any(getattr(config.option, _dest(option), None) not in (None, False) for option in OPTIONS)


# --- settings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seeds:
    """The seeds of a run's trials. All that is random in a trial comes from streams that its seed and test name.

    `first` is that of trial 0. `only`, if not None, says which trials of each test to run: those that failed.
    """

    first: int
    only: dict[str, list[int]] | None = None

    def of(self, trial: int) -> int:
        return self.first + trial

    @staticmethod
    def streams(seed: int, test: str) -> str:
        """What the names of a trial's streams begin with: `random.Random(f"{streams}:network")` and so on."""
        return f"{seed}:{test}"

    @staticmethod
    def solutions(seed: int, test: str) -> str:
        """The stream of the solution's own draws from the module `random`, on real threads."""
        return f"{seed}:{test}:student"


@dataclass
class Settings:
    """What a run is. Times are virtual with `sim`; `sim_check` and `race` imply that."""

    solution: solution.Solution
    trials: int
    seeds: Seeds
    sim: bool
    sim_check: bool  # each trial twice
    schedule: Schedule
    race: bool
    race_share: float
    paper: bool  # a broken rule of the paper fails the test
    isolate: bool  # real time, each server in a process of its own
    columns: bool  # show the journal of a failing trial
    hunt: Amount | None  # in place of the lab's tests
    picture: bool  # make one of each trial, and open the first that matters
    taken: list[str]  # options that another plugin or a conftest.py has under the same name
    repeatable: list[str]  # the words of the command line that a repeat needs besides, such as --raft
    leaked: list[threading.Thread] = field(default_factory=list)  # of solutions, that could not be ended

    @property
    def mode(self) -> Mode:
        return "virtual" if self.sim else "isolated" if self.isolate else "real"

    @property
    def how(self) -> str:
        """The way in which trials run, in words."""
        if self.race:
            return "virtual time with the race detector"
        return {"virtual": "virtual time", "isolated": "isolated processes", "real": "real threads"}[self.mode]


def of_story(settings: Settings, marker: pytest.Mark) -> Settings | str:
    """Those of a lab test that is marked as what a hunt has found: virtual time, the paper's rules, and its own seed.

    `@pytest.mark.hunt(seed=7)`, and for one that was found so, `race=0.02` (the share) or `schedule="pct"`. Or what is
    wrong, and what to do.
    """
    known = {"seed": int, "race": float, "schedule": str}
    wrong = [name for name, value in marker.kwargs.items() if type(value) is not known.get(name)]
    if marker.args or wrong or "seed" not in marker.kwargs:
        return '@pytest.mark.hunt takes seed=7, and perhaps race=0.02 or schedule="pct", as a hunt has written it'
    if settings.isolate:
        return "a story that a hunt has found fails in virtual time with its seed: leave out --isolate"
    share = marker.kwargs.get("race")
    return replace(
        settings,
        seeds=Seeds(marker.kwargs["seed"]),
        sim=True,
        paper=True,
        race=settings.race or share is not None,
        race_share=settings.race_share if share is None else share,
        schedule=marker.kwargs.get("schedule", settings.schedule),
    )


def of(config: pytest.Config) -> Settings:
    """The settings of a run, read when first asked for. Raises pytest.UsageError."""
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = _read(config)
    return config.stash[_SETTINGS]


_DRAWN = pytest.StashKey[int]()


def drawn_seed(config: pytest.Config) -> int:
    """A seed for the run whose command line names none, the same at each call."""
    return config.stash.setdefault(_DRAWN, random.SystemRandom().randrange(SEEDS))


def terminal_width(config: pytest.Config) -> int:
    """In characters, also in a worker."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        return int(workerinput["lab_width"])
    return int(config.get_terminal_writer().fullwidth) if config.pluginmanager.hasplugin("terminalreporter") else 100


def report_folder(config: pytest.Config) -> Path | None:
    """That of --report."""
    folder = given(config, "--report")
    return None if folder is None else config.invocation_params.dir / folder


def kept_folder(config: pytest.Config) -> Path:
    """Where pictures lie that are not part of a report: in pytest's cache, or where there is none, in a new folder."""
    cache = getattr(config, "cache", None)  # None with -p no:cacheprovider
    return Path(cache.mkdir("lab")) if cache else Path(tempfile.mkdtemp(prefix="raft-lab-"))


def known(config: pytest.Config) -> Settings | None:
    """The settings if anybody has asked for them: None in a run that has no lab test."""
    return config.stash.get(_SETTINGS, None)


def _read(config: pytest.Config) -> Settings:
    race, sim_check = bool(given(config, "--race")), bool(given(config, "--sim-check"))
    hunt = _amount(given(config, "--hunt")) if given(config, "--hunt") else None
    sim = bool(given(config, "--sim")) or sim_check or race or hunt is not None
    share = getattr(config.option, _dest("--race-share"), None)
    if share is not None and not race:
        raise pytest.UsageError("--race-share says how --race looks, and has no effect without it: add --race")
    if given(config, "--schedule") and not sim:
        raise pytest.UsageError(
            "--schedule is for virtual time, and has no effect on real threads: add --sim or --race"
        )
    isolate = bool(given(config, "--isolate"))
    if isolate and hunt:
        raise pytest.UsageError("--hunt runs stories in virtual time, and --isolate is real time: give one of them")
    if hunt and (sim_check or given(config, "--trials")):
        other = "--sim-check" if sim_check else "--trials"
        raise pytest.UsageError(f"--hunt draws its own stories, and {other} has no effect on them: leave it out")
    if hunt and getattr(config.option, _dest("--seed"), None) == "failed":
        raise pytest.UsageError("--hunt tries what failed the last time first, in any case: leave out --seed failed")
    if isolate and sim:
        raise pytest.UsageError("--isolate runs in real time: give it without --sim, --sim-check and --race")
    if isolate and os.name != "posix":
        raise pytest.UsageError("--isolate starts processes as POSIX systems have it: use --sim, or real threads")
    seeds = _seeds(config)
    trials = 1 if hunt else given(config, "--trials") or at_least_one(config.getini("trials") or "1")
    if seeds.only is not None:
        trials = max(trial + 1 for of_test in seeds.only.values() for trial in of_test)
    if given(config, "--picture") and trials > 1:
        raise pytest.UsageError(
            "--picture opens the picture of a single run: "
            "with --trials give --report DIR, which has those of the first failures of each kind"
        )
    raft = given(config, "--raft")
    return Settings(
        solution=_solution(config),
        trials=trials,
        seeds=seeds,
        sim=sim,
        sim_check=sim_check,
        schedule=given(config, "--schedule") or "random",
        race=race,
        race_share=RACE_SHARE if share is None else share,
        paper=bool(given(config, "--paper")) or hunt is not None,
        isolate=isolate,
        columns=bool(given(config, "--columns")),
        hunt=hunt,
        picture=bool(given(config, "--picture")),
        taken=config.stash.get(_TAKEN, []),
        repeatable=["--raft", raft] if raft else [],
    )


def _solution(config: pytest.Config) -> solution.Solution:
    what, base = given(config, "--raft"), config.invocation_params.dir
    if what is None:
        what, base = config.getini("raft"), config.inipath.parent if config.inipath else config.rootpath
    if not what:  # that of the tree in which the tests run, or the one that is installed
        what = "raft/raft.py"
        base = base if (base / what).is_file() else HOME
    try:
        return solution.find(what, base)
    except solution.SolutionError as e:
        raise pytest.UsageError(str(e)) from None


def _seeds(config: pytest.Config) -> Seeds:
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        return Seeds(**workerinput["lab_seeds"])
    seed = getattr(config.option, _dest("--seed"), None)
    cache = getattr(config, "cache", None)  # None with -p no:cacheprovider
    if seed in ("last", "failed"):
        first = cache.get(CACHED_SEED, None) if cache else None
        if first is None:
            raise pytest.UsageError(f"--seed {seed}: no earlier run has left its seed here")
        if seed == "last":
            return Seeds(int(first))
        failed = cache.get(CACHED_FAILURES, {}) if cache else {}
        if not failed:
            raise pytest.UsageError("--seed failed: no trial failed in the previous run")
        return Seeds(int(first), failed)
    return Seeds(drawn_seed(config) if seed is None else int(seed))


def remember(config: pytest.Config, settings: Settings, records: list[Record]) -> None:
    """Leave the seeds for `--seed last` and `--seed failed`."""
    cache = getattr(config, "cache", None)
    if cache:
        failed: dict[str, list[int]] = {}
        for record in records:
            if not record.passed:
                failed.setdefault(record.test, []).append(record.trial)
        cache.set(CACHED_SEED, settings.seeds.first)
        cache.set(CACHED_FAILURES, failed)


def is_deselected(config: pytest.Config, markers: Callable[[], set[str]]) -> bool:
    """Whether -m surely leaves a test out: a thousand trials of every other part would take long to collect."""
    words = re.findall(r"\w+", config.option.markexpr)
    return bool(words) and "not" not in words and not markers() & set(words)


# --- repeating a trial ---------------------------------------------------------------------------------------------


def repeat_command(config: pytest.Config, settings: Settings, node: NodeId) -> str:
    """The command that runs one trial again, and nothing else."""
    command = ["pytest"]
    if node.part:
        command += ["-m", node.part]
    command += ["--hunt", settings.hunt.word] if settings.hunt else ["-k", node.test]
    command += settings.repeatable
    if settings.race:
        command += ["--race"]
        if settings.race_share != RACE_SHARE:
            command += ["--race-share", str(settings.race_share)]
    if settings.isolate:
        command += ["--isolate"]
    if settings.sim_check:
        command += ["--sim-check"]
    elif settings.sim and not (settings.race or settings.hunt):
        command += ["--sim"]
    if settings.paper and not settings.hunt:
        command += ["--paper"]
    if settings.schedule != "random":
        command += ["--schedule", settings.schedule]
    if at_least_one(config.getini("trials") or "1") != 1 and not settings.hunt:
        command += ["--trials", "1"]
    command += ["--seed", str(settings.seeds.of(node.trial))]
    return shlex.join(command) if sys.platform != "win32" else " ".join(f'"{w}"' if " " in w else w for w in command)
