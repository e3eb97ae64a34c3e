"""The pytest plugin of the lab: its options, the fixture `make_config`, and what is shown.

A lab test is one that asks for the fixture `make_config`. For each it runs, the plugin

- gives it a seed: that of the run plus the number of the trial;
- loads the solution afresh when the test makes its servers, and forgets it afterwards;
- with --sim, runs test, harness and solution in a world of virtual time (labgrade.simulation) instead of real threads;
- attaches a LabRecord (labgrade.summary) to the report of its call, from which the controlling process, with xdist or
  without, prints the lab's own lines after a single run, or a table and the grouped failures after trials.

A solution cannot end the process with os._exit while its test runs: that is a failure of the test like any other.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import random
import re
import shlex
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_args

import pytest

from labgrade import solution, summary
from labgrade.integrity import GUARDED, Harness
from labgrade.report import Report, ReportError, cut
from labgrade.simulation import RACE_SHARE, Simulation, check_unchanged
from labsim.race import Race
from labsim.scheduler import Schedule
from raft.config import Config, LabFailure, Trial

__tracebackhide__ = True

PARTS = {
    "2A": "leader election",
    "2B": "log replication",
    "2C": "persistence",
    "2D": "log compaction",
}
RAFT_HELP = "the solution: a file, a folder or a dotted module that offers Make"
TRIALS_HELP = "run every lab test N times, each with a seed of its own"
SEED_HELP = "the seed of the first trial (the next ones count up from it), or 'last' for the previous run's"
MAX_OUTPUT = 20_000  # characters of a solution's output that a report keeps
SIM_HELP = "run lab tests in deterministic virtual time instead of real threads"
SIM_CHECK_HELP = "run each lab test twice in virtual time, in two processes, and fail if they differ in any event"
RACE_HELP = "run lab tests in virtual time and look for data races of the solution; a race fails the test"
RACE_SHARE_HELP = "with --race: at which share of the accesses it watches another thread goes first"
REPORT_HELP = "write results.json and the log of each failing trial into DIR"
SCHEDULE_HELP = "in virtual time, whether the next thread is drawn evenly ('random') or has priority ('pct')"
MOST_RACES = 10  # of one trial that are shown in full
SEEDS = 2**31
LAB_TEST = re.compile(r"[^:]*::(?P<test>Test\w*?(?P<part>2[ABCD])?)(\[trial(?P<trial>\d+)\])?")  # a node id

SETTINGS = pytest.StashKey["Settings"]()
RUN = pytest.StashKey["Run"]()
REPORT = pytest.StashKey[Report]()


@dataclass
class Settings:
    """What the command line and the ini file say about the lab."""

    solution: solution.Solution
    trials: int
    seed: int
    sim: bool  # virtual time
    sim_check: bool  # and each trial twice
    schedule: Schedule
    race: bool  # virtual time with the race detector
    race_share: float
    leaked: list[threading.Thread] = field(default_factory=list)  # threads of solutions that could not be ended


# --- options -------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lab", "the Raft lab")
    group.addoption("--raft", metavar="WHAT", help=f"{RAFT_HELP} (default: the ini setting raft)")
    group.addoption(
        "--trials", metavar="N", type=_at_least_one, help=f"{TRIALS_HELP} (default: the ini setting trials)"
    )
    group.addoption("--seed", metavar="S", type=_seed, help=f"{SEED_HELP} (default: drawn afresh)")
    group.addoption("--sim", action="store_true", help=SIM_HELP)
    group.addoption("--sim-check", action="store_true", help=SIM_CHECK_HELP)
    group.addoption("--race", action="store_true", help=RACE_HELP)
    group.addoption(
        "--race-share",
        metavar="P",
        type=_share,
        default=RACE_SHARE,
        help=f"{RACE_SHARE_HELP} (default: {RACE_SHARE})",
    )
    group.addoption(
        "--schedule", choices=get_args(Schedule), default="random", help=f"{SCHEDULE_HELP} (default: random)"
    )
    group.addoption("--report", metavar="DIR", help=REPORT_HELP)
    parser.addini("raft", f"{RAFT_HELP}, relative to the ini file", default="raft/raft.py")
    parser.addini("trials", TRIALS_HELP, default="1")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | pytest.ExitCode | None:
    """Take `--raft PATH` and `--report PATH` as they are meant, wherever PATH lies.

    pytest looks for its ini file and conftest.py before it knows our options, and takes PATH for a test to be run: it
    would settle in the solution's folder. `--raft=PATH` leaves it no such choice, so begin again with that.
    """
    args = list(config.invocation_params.args)
    joined: list[str] = []
    for arg in args:
        if joined and joined[-1] in ("--raft", "--report"):
            joined[-1] += f"={arg}"
        else:
            joined.append(str(arg))
    if joined == args:
        return None
    # pytest would rewrite the asserts of a plugin's modules, but those have been imported by the first beginning.
    quiet = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    return pytest.main([*joined, *quiet], config.invocation_params.plugins)


def _at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise pytest.UsageError(f"--trials takes a whole number of at least 1, not {text!r}")
    return int(text)


def _seed(text: str) -> int | str:
    if text != "last" and not (text.isascii() and text.isdigit()):
        raise pytest.UsageError(f"--seed takes a whole number or 'last', not {text!r}")
    return text if text == "last" else int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise pytest.UsageError(f"--race-share takes a number from 0 to 1, not {text!r}")
    return share


def pytest_configure(config: pytest.Config) -> None:
    for part, about in PARTS.items():
        config.addinivalue_line("markers", f"{part}: part {part} of the lab, {about}")
    race, sim_check = config.getoption("race"), config.getoption("sim_check")
    config.stash[SETTINGS] = Settings(
        _solution(config),
        trials=config.getoption("trials") or _at_least_one(config.getini("trials")),
        seed=_base_seed(config),
        sim=config.getoption("sim") or sim_check or race,
        sim_check=sim_check,
        schedule=config.getoption("schedule"),
        race=race,
        race_share=config.getoption("race_share"),
    )

    folder = config.getoption("report")
    if folder is not None and not hasattr(config, "workerinput") and not config.option.collectonly:
        try:
            config.stash[REPORT] = Report(config.invocation_params.dir / folder)
            config.stash[REPORT].begin(
                solution=config.stash[SETTINGS].solution.what,
                seed=config.stash[SETTINGS].seed,
                trials_asked=config.stash[SETTINGS].trials,
                mode="virtual" if config.stash[SETTINGS].sim else "real",
                race=race,
            )
        except ReportError as e:
            raise pytest.UsageError(str(e)) from None


def _solution(config: pytest.Config) -> solution.Solution:
    what, base = config.getoption("raft"), config.invocation_params.dir
    if what is None:
        what, base = config.getini("raft"), config.inipath.parent if config.inipath else config.rootpath
    try:
        return solution.find(what, base)
    except solution.SolutionError as e:
        raise pytest.UsageError(str(e)) from None


def _base_seed(config: pytest.Config) -> int:
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        return int(workerinput["lab_seed"])
    seed = config.getoption("seed")
    cache = getattr(config, "cache", None)  # None with -p no:cacheprovider
    if seed == "last":
        seed = cache.get("lab/seed", None) if cache else None
        if seed is None:
            raise pytest.UsageError("--seed last: no earlier run has left its seed here")
    return random.SystemRandom().randrange(SEEDS) if seed is None else int(seed)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: tell a worker the seed, which may have been drawn here."""
    node.workerinput["lab_seed"] = node.config.stash[SETTINGS].seed


def pytest_report_header(config: pytest.Config) -> str:
    settings = config.stash[SETTINGS]
    trials = f", {settings.trials} trials" if settings.trials > 1 else ""
    time = "virtual time" if settings.sim else "real threads"
    if settings.race:
        time += " with the race detector"
    return f"lab: --raft {settings.solution.what} --seed {settings.seed}{trials}, {time}"


# --- running a lab test --------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    trials = metafunc.config.stash[SETTINGS].trials
    if "make_config" in metafunc.fixturenames and trials > 1 and not _deselected(metafunc):
        ids = [f"trial{k}" for k in range(trials)]
        metafunc.parametrize("make_config", range(trials), indirect=True, ids=ids)


def _deselected(metafunc: pytest.Metafunc) -> bool:
    """Whether -m surely leaves this test out: a thousand trials of every other part would take long to collect."""
    words = re.findall(r"\w+", metafunc.config.getoption("markexpr"))
    return bool(words) and "not" not in words and not any(m.name in words for m in metafunc.definition.iter_markers())


@pytest.fixture
def make_config(request: pytest.FixtureRequest) -> Iterator[Callable[..., Config]]:
    """The lab's make_config(n, unreliable=False, snapshot=False), on the solution that was asked for."""
    run = Run(request.node, getattr(request, "param", 0))
    request.node.stash[RUN] = run
    with run:
        yield run.make_config


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """In virtual time, it is the world's copy of the test function that runs."""
    run = pyfuncitem.stash.get(RUN, None)
    if run is None:
        return None
    if run.settings.sim:
        run.simulate()
    else:
        arguments = inspect.signature(pyfuncitem.obj).parameters
        run.on_real_threads(lambda: pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in arguments}))
    return True


class Run:
    """One trial of one lab test."""

    def __init__(self, item: pytest.Function, trial: int) -> None:
        self.test = item.originalname
        self.settings = item.config.stash[SETTINGS]
        self.seed = self.settings.seed + trial
        self.lines: list[str] = []
        self.trial: Trial | None = None  # once the test has made its servers
        self.races: list[Race] = []
        self._item = item
        self._context = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._context.enter_context(_exit_refused(self))
        if not self.settings.sim:
            self._context.enter_context(_global_random(f"{self.seed}:{self.test}:student"))

    def __exit__(self, *exc: object) -> None:
        self._context.close()
        if self.trial:
            self.settings.leaked += self.trial.leaked
            self.trial = None  # pytest keeps its items, and with this they would keep every server of the run

    def make_config(self, *args: Any, **kwargs: Any) -> Config:
        """On real threads: load the solution, and make the test's servers."""
        module = self._context.enter_context(solution.loaded(self.settings.solution))
        self.trial = Trial(module.Make, f"{self.seed}:{self.test}", self._out)
        return self.trial.make_config(*args, **kwargs)

    def on_real_threads(self, test: Callable[[], object]) -> None:
        """The whole test, and afterwards the harness as it was."""
        harness = Harness(map(importlib.import_module, GUARDED))
        try:
            test()
            check_unchanged(harness)
        finally:
            harness.restore()

    def simulate(self) -> None:
        """In virtual time: the whole test."""
        settings = self.settings
        simulation = Simulation(
            settings.solution,
            self._item.path,
            self.test,
            self.seed,
            self._out,
            schedule=settings.schedule,
            race_share=settings.race_share if settings.race else None,
        )
        try:
            simulation.run(trace=settings.sim_check)
        finally:
            self.trial = simulation.trial
            self.races = simulation.races
            if settings.sim_check:
                simulation.check_repeatable()
        if self.races:
            __tracebackhide__ = False
            pytest.fail(f"data race on {self.races[0].summary}", pytrace=False)

    def _out(self, line: str) -> None:
        self.lines.append(line)
        terminal = self._item.config.pluginmanager.getplugin("lab terminal")
        if terminal is not None:  # None in a worker, whose lines travel with the report
            terminal.show(line, self._item.path)

    def _part(self) -> str | None:
        return next((m.name for m in self._item.iter_markers() if m.name in PARTS), None)

    def record(
        self, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None
    ) -> summary.LabRecord:
        figures = self.trial.figures if self.trial else None
        return {
            "test": self.test,
            "seed": self.seed,
            "outcome": report.outcome,
            "seconds": figures.seconds if figures else None,
            "servers": figures.servers if figures else None,
            "rpcs": figures.rpcs if figures else None,
            "bytes": figures.bytes if figures else None,
            "commands": figures.commands if figures else None,
            "message": message_of(excinfo.value) if excinfo else "",
            "repeat": repeat_command(self._item.config, self.settings, self.test, self._part(), self.seed),
            "lines": self.lines,
        }


def repeat_command(config: pytest.Config, settings: Settings, test: str, part: str | None, seed: int) -> str:
    """The command that runs a trial again."""
    command = ["pytest"]
    if part:
        command += ["-m", part]
    command += ["-k", test]
    if config.getoption("raft"):
        command += ["--raft", config.getoption("raft")]
    if settings.sim:
        command += ["--race"] if settings.race else ["--sim"]
        if settings.race and settings.race_share != RACE_SHARE:
            command += ["--race-share", str(settings.race_share)]
        if settings.schedule != "random":
            command += ["--schedule", settings.schedule]
    command += ["--seed", str(seed)]
    return shlex.join(command)


def message_of(e: BaseException) -> str:
    """What a failure says, in a line: the lab's own sentence, or the exception."""
    if isinstance(e, AssertionError) and hasattr(e, "message"):  # LabFailure, perhaps a virtual world's own copy
        return str(e.message)
    first_line = str(e).partition("\n")[0]
    named = isinstance(e, pytest.fail.Exception) or first_line.startswith(type(e).__name__)
    return first_line if named else f"{type(e).__name__}: {first_line}"


@contextlib.contextmanager
def _global_random(seed: str) -> Iterator[None]:
    """Let the solution's draws from the module `random` come from the seed, and leave everybody else's alone."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def _exit_refused(run: Run) -> Iterator[None]:
    """os._exit fails the test instead of ending the process, which would lose every result, or look like success."""

    def refuse(status: int) -> NoReturn:
        failure = LabFailure(f"the solution called os._exit({status}), which would end the whole run")
        if run.trial:
            run.trial.fail_later(failure)  # also if the solution catches what is raised here
        raise failure

    modules: list[Any] = [os, sys.modules[os.name]]  # os takes it from posix or nt
    before = os._exit
    for module in modules:
        module._exit = refuse
    try:
        yield
    finally:
        for module in modules:
            module._exit = before


# --- what is shown -------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    report.sections = [(title, cut(text, MAX_OUTPUT)) for title, text in report.sections]
    run = item.stash.get(RUN, None)
    if run is not None and report.when == "call":
        record = report.lab = run.record(report, call.excinfo)  # type: ignore[attr-defined]
        if report.failed:
            if run.races:
                report.sections.insert(0, ("data races", _races(run.races)))
            if run.trial:
                report.sections.insert(0, ("the test so far", "\n".join(run.trial.events)))
            report.sections.append(("repeat with", record["repeat"]))
    return report


def _races(races: list[Race]) -> str:
    text = "\n\n".join(map(str, races[:MOST_RACES]))
    return (
        text if len(races) <= MOST_RACES else f"{text}\n\nand {len(races) - MOST_RACES} more, which may go with these"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """A single run shows the lab's lines in place of dots."""
    if hasattr(report, "lab") and config.stash[SETTINGS].trials == 1 and config.get_verbosity() <= 0:
        return report.outcome, "", "FAILED" if report.failed else ""
    return None


class Terminal:
    """What the process that has the terminal shows."""

    def __init__(self, config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
        self.settings = config.stash[SETTINGS]
        self.reporter = reporter
        self.capture = config.pluginmanager.getplugin("capturemanager")
        self.records: list[summary.LabRecord] = []
        self._after_line: Path | None = None
        self.report: Report | None = None  # with --report

    def show(self, line: str, path: Path, **markup: bool) -> None:
        """Write a line about the test file `path`, captured or not. After trials there is a table instead."""
        if self.settings.trials > 1:
            return
        with self.capture.global_and_fixture_disabled() if self.capture else contextlib.nullcontext():
            if self.reporter.currentfspath is not self._after_line:
                self.reporter.ensure_newline()
            self.reporter.write(f"{line}\n", flush=True, **markup)
            # So that the next test does not begin by repeating the name of its file.
            self._after_line = self.reporter.currentfspath = Path(path)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        record: summary.LabRecord | None = getattr(report, "lab", None) or self._record_of_lost(report)
        if record is None:
            return
        self.records.append(record)
        if self.report:
            self.report.add(report, record, self.settings.sim)
        path = self.reporter.config.rootpath / report.location[0]
        if hasattr(report, "node"):  # from a worker
            for line in record["lines"]:
                self.show(line, path)
        if report.failed:
            self.show(f"--- FAIL: {record['test']} ({report.duration:.2f}s)", path, red=True)
            self.show(f"    {record['message']}", path)

    def _record_of_lost(self, report: pytest.TestReport) -> summary.LabRecord | None:
        """The record of a lab test whose process ended, or whose set-up failed, so that it has none of its own."""
        found = LAB_TEST.fullmatch(report.nodeid)
        if report.outcome != "failed" or report.when in ("call", "teardown") or not found:
            return None
        seed = self.settings.seed + int(found["trial"] or 0)
        message = report.longreprtext.strip().rpartition("\n")[2]
        if report.when != "setup":  # but xdist's own words
            message = "the process ended while the test ran"
        repeat = repeat_command(self.reporter.config, self.settings, found["test"], found["part"], seed)
        record: summary.LabRecord = {
            "test": found["test"],
            "seed": seed,
            "outcome": "failed",
            "seconds": None,
            "servers": None,
            "rpcs": None,
            "bytes": None,
            "commands": None,
            "message": message,
            "repeat": repeat,
            "lines": [],
        }
        report.lab = record  # type: ignore[attr-defined]
        return record

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self) -> Generator[None]:
        """Of failures of one kind, pytest shows the first in full; the lab's own section names them all."""
        if self.reporter.currentfspath is self._after_line:
            self.reporter.currentfspath = None  # the cursor is at the beginning of a line already
        failed = self.reporter.stats.get("failed", [])
        seen: set[tuple[str, str]] = set()
        shown = []
        for report in failed:
            record = getattr(report, "lab", None)
            kind = summary.failure_kind(record) if record else None
            if kind is None or kind not in seen:
                shown.append(report)
            if kind:
                seen.add(kind)
        if failed:
            self.reporter.stats["failed"] = shown
        yield
        if failed:
            self.reporter.stats["failed"] = failed
        if self.settings.trials > 1 and self.records:
            self._trials_summary()

    def _trials_summary(self) -> None:
        s = self.settings
        self.reporter.write_sep("=", f"lab: {s.trials} trials, seeds {s.seed} to {s.seed + s.trials - 1}")
        for line in summary.table(self.records):
            self.reporter.write_line(line)
        failures = summary.grouped_failures(self.records)
        if failures:
            self.reporter.write_line("")
            for line in failures:
                self.reporter.write_line(line)


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        terminal = Terminal(config, reporter)
        config.pluginmanager.register(terminal, "lab terminal")
        terminal.report = config.stash.get(REPORT, None)
    if getattr(config, "cache", None) and not hasattr(config, "workerinput"):
        config.cache.set("lab/seed", config.stash[SETTINGS].seed)


EXIT_STATUS = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that could not be ended must not keep the process alive: Python waits for those that are no daemons."""
    settings = config.stash.get(SETTINGS, None)
    if settings and any(thread.is_alive() for thread in settings.leaked):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(EXIT_STATUS, 1))
