"""The pytest plugin of the lab: hooks, and nothing else.

A lab test is one that asks for this plugin's fixture `make_config`; its name begins with Test. For each that it runs,
the plugin

- gives it a seed: that of the run plus the number of the trial (labrun.settings);
- runs it on real threads (labrun.real), in a world of virtual time (labrun.virtual) or with each server in a process of
  its own (labrun.isolated);
- attaches a Record (labrun.record) to the report of its call, from which the controlling process, with xdist or
  without, prints the lab's own lines after a single run, or a table and the grouped failures after trials
  (labrun.terminal), and writes the report (labrun.report).

Where there is no lab test and no option of ours was given, nothing of this is noticed: the environment may be somebody
else's. Where an option of ours was given and no lab test lies in the arguments, the lab's own tests run.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import re
import sys
import warnings
from abc import ABC, abstractmethod
from bdb import BdbQuit
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labrun import HOME, TESTS, settings
from labrun.evidence import causes_of
from labrun.isolated.shared import shared
from labrun.paper import PaperBroken, Watch
from labrun.real import RealTrial, exit_refused
from labrun.record import COSTLY, Kind, NodeId, Record, cause_of, facts_of, message_of
from labrun.report import COLUMNS, MOST_JOURNALS, Report, ReportError, cut, marks, write_journal, write_picture
from labrun.settings import PARTS, Amount, Settings, repeat_command
from labrun.solution import Solution
from labrun.terminal import Terminal
from labrun.text import shown
from labrun.version import digest_of
from labrun.virtual import RaceFound, VirtualTrial
from labsim.races import Race
from labwatch.columns import columns
from raft.config import Config

if TYPE_CHECKING:
    from labrun.isolated.run import IsolatedRun

__tracebackhide__ = True

MAX_OUTPUT = 20_000  # characters of a solution's output that a report keeps
MOST_RACES = 10  # of one trial that are shown in full
MOST_LINES = 60  # of --columns
MOST_WARNINGS = 10  # of one trial that its record names
SUSPICIOUS = ("LabgobWarning", "LeakWarning")
FIXTURE = "make_config"

HUNTS = HOME / "labrun" / "hunt"

RUN = pytest.StashKey["Run"]()
EXIT_STATUS = pytest.StashKey[int]()
JOURNALS = pytest.StashKey[Counter[Kind]]()  # how many failures of a kind have asked for one


# --- options, and when to come forward -----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None]:
    try:
        return (yield)
    finally:
        settings.add_options(early_config, parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | pytest.ExitCode | None:
    """Take `--raft PATH` and `--report PATH` as they are meant, wherever PATH lies, and `--hunt` with or without T.

    pytest looks for its ini file and conftest.py before it knows our options, and takes PATH for a test to be run: it
    would settle in the solution's folder. `--raft=PATH` leaves it no such choice, so begin again with that. Likewise
    the word after `--hunt` is its amount only if it looks like one.
    """
    if not settings.asked(config):
        return None
    args = list(map(str, config.invocation_params.args))
    joined: list[str] = []
    by_default = f"--hunt={settings.DEFAULT_AMOUNT}"
    for arg in args:
        if joined and joined[-1] in ("--raft", "--report"):
            joined[-1] += f"={arg}"
        elif joined and joined[-1] == by_default and Amount.parse(arg):
            joined[-1] = f"--hunt={arg}"
        else:
            joined.append(by_default if arg == "--hunt" else arg)
    if joined == args:
        return None
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()  # else nobody could answer a breakpoint()
    # pytest would rewrite the asserts of a plugin's modules, but those have been imported by the first beginning.
    quiet = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    return pytest.main([*joined, *quiet], config.invocation_params.plugins)


def pytest_configure(config: pytest.Config) -> None:
    if settings.asked(config) or _is_lab_without_tests(config):
        _register_markers(config)
        if settings.given(config, "--hunt"):
            config.args = [str(HUNTS)]
        elif not _holds_lab_tests(config.args):
            config.args = [str(TESTS)]
    if settings.asked(config):
        settings.of(config)  # what is wrong with the command line is said before anything runs
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Terminal(config), "lab terminal")


def _is_lab_without_tests(config: pytest.Config) -> bool:
    """Whether somebody asks for a part of the lab inside the lab's own tree, in a folder that has no tests."""
    return config.rootpath == HOME and any(part in config.option.markexpr for part in PARTS)


def _holds_lab_tests(args: list[str]) -> bool:
    for arg in args:
        path = Path(arg.partition("::")[0])
        files = [path] if path.is_file() else _not_installed(path) if path.is_dir() else []
        if any(_is_lab_file(file) for file in files if not any(map(_is_harness, file.parents))):
            return True
    return False


def _not_installed(folder: Path) -> Iterator[Path]:
    """The Python files in a folder, without those of an environment in it."""
    return (file for file in folder.rglob("*.py") if "site-packages" not in file.relative_to(folder).parts)


def _is_lab_file(file: Path) -> bool:
    if not file.name.startswith("test_"):
        return False
    try:
        return f"{FIXTURE}(".encode() in file.read_bytes()
    except OSError:
        return False


def _register_markers(config: pytest.Config) -> None:
    declared = config.getini("markers")
    lines = [f"{part}: part {part} of the lab, {about}" for part, about in PARTS.items()]
    for line in [*lines, "hunt(seed): a story that --hunt has found; it runs in virtual time, with this seed"]:
        if line not in declared:
            config.addinivalue_line("markers", line)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m 2A` selects lab tests alone: the hundreds that judge the harness need not be imported for it."""
    only_parts = re.fullmatch(r"[\s()]*2[ABCD](\s+or\s+2[ABCD]|[\s()])*", config.option.markexpr)
    return True if only_parts and _is_harness(collection_path) else None


def _is_harness(folder: Path) -> bool:
    """Whether it holds the tests that judge the harness, in which lab tests stand as text only."""
    return folder.name == "harness" and (folder.parent / "test_2a.py").exists()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """A lab test file uses the markers of the parts as soon as it is imported."""
    if _is_lab_file(module_path):
        _register_markers(parent.config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path == HUNTS / "items.py" and settings.of(parent.config).hunt:
        from labrun.hunt.items import Hunts

        return Hunts.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[pytest.Item] | None:
    """The lab's tests are functions called Test..., which pytest by itself takes for no test."""
    if not (name.startswith("Test") and inspect.isfunction(obj) and isinstance(collector, pytest.Module)):
        return None
    if FIXTURE not in inspect.signature(obj).parameters:
        return None
    items: list[pytest.Item] = list(collector._genfunctions(name, obj))
    part = next((part for part in PARTS if name.endswith(part)), "")
    if part and not any(item.get_closest_marker(part) for item in items):
        mark = f'pytestmark = getattr(pytest.mark, "{part}")'
        collector.warn(pytest.PytestWarning(f"{name} has no marker {part}, so -m {part} leaves it out: write {mark}"))
    return items


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: tell a worker the seeds, which may have been drawn here."""
    asked = settings.asked(node.config)
    seeds = settings.of(node.config).seeds if asked else settings.Seeds(settings.drawn_seed(node.config))
    node.workerinput["lab_seeds"] = {"first": seeds.first, "only": seeds.only}
    node.workerinput["lab_width"] = settings.terminal_width(node.config)


# --- running a lab test --------------------------------------------------------------------------------------------


def _is_ours(definitions: Any) -> bool:
    """Whether `make_config` means the lab's fixture there, and not one that somebody else calls so."""
    return bool(definitions) and definitions[-1].func.__module__ == __name__


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if FIXTURE not in metafunc.fixturenames or not _is_ours(metafunc._arg2fixturedefs.get(FIXTURE)):
        return
    s = settings.of(metafunc.config)
    if settings.is_deselected(metafunc.config, lambda: {m.name for m in metafunc.definition.iter_markers()}):
        return
    trials: list[int] = list(range(s.trials))
    if s.seeds.only is not None:
        trials = s.seeds.only.get(metafunc.function.__name__, [])
    if trials not in ([0], []):
        metafunc.parametrize(FIXTURE, trials, indirect=True, ids=[f"trial{k}" for k in trials])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`--seed failed` leaves out the tests of which no trial has failed."""
    s = settings.known(config)
    if s is None or s.seeds.only is None:
        return
    left_out = [i for i in items if isinstance(i, pytest.Function) and _is_left_out(i, s.seeds.only)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_left_out(item: pytest.Function, only: dict[str, list[int]]) -> bool:
    return _is_ours(item._fixtureinfo.name2fixturedefs.get(FIXTURE)) and item.originalname not in only


@pytest.fixture
def make_config(request: pytest.FixtureRequest) -> Iterator[Callable[..., Config]]:
    """The lab's make_config(n, unreliable=False, snapshot=False), on the solution that was asked for."""
    item = LabItem(request.node, getattr(request, "param", 0))
    request.node.stash[RUN] = item

    def too_early(*args: Any, **kwargs: Any) -> Config:
        raise RuntimeError("make_config is for the lab test itself: no fixture can use it")

    with exit_refused(lambda: item.running.trial), _collected_once(item.settings.sim):
        yield too_early
        item.forget()


@contextmanager
def _collected_once(sim: bool) -> Iterator[None]:
    """What a trial in virtual time leaves is large and full of cycles: collect it when nobody holds it any more.

    Python would go through it as its world is left, in vain, and again later.
    """
    rests = sim and gc.isenabled()
    if rests:
        gc.disable()
    try:
        yield
    finally:
        if rests:
            gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    item = pyfuncitem.stash.get(RUN, None)
    if not isinstance(item, LabItem):
        return None
    item.run()
    return True


class Run(ABC):
    """A trial as an item of pytest's has it, with all that its report and whoever shows a failure may ask for."""

    node: NodeId
    settings: Settings
    # Each has a `journal`, which keeps what happened, and a `watch`, which judges it by the paper's rules.
    running: RealTrial | VirtualTrial | IsolatedRun
    no_journal = ""  # why there is none, or no file of it
    no_picture = ""  # why there is none
    seen: Sequence[warnings.WarningMessage] = ()  # while it ran

    @functools.cached_property
    def rules(self) -> Watch | None:
        """What the paper's rules say of the trial, now that it has ended; None where they cannot be judged."""
        if self.running.watch or self.running.journal is None:
            return self.running.watch
        return Watch.afterwards(self.running.journal, self.node.test, virtual=self.settings.sim)

    def keep(self, config: pytest.Config, record: Record, about: dict[str, Any]) -> Record:
        """Write what is to be kept of the trial's journal, whose header is `about`; the record, which names it."""
        report, journal = settings.report_folder(config), self.running.journal
        if journal is None or not (self.settings.picture or (report and not record.passed)):
            return record
        if report and not record.passed:
            try:
                record = write_journal(report, journal, record, about)
            except Exception as e:
                self.no_journal = _why_not(e)
        try:
            return write_picture(report or settings.kept_folder(config), journal, record, about, whole=report is None)
        except Exception as e:
            self.no_picture = _why_not(e)
        return record

    def columns(self, config: pytest.Config, about: dict[str, Any]) -> str:
        """Of the trial's journal, whose header is `about`: what --columns shows."""
        assert self.running.journal is not None
        try:
            width = settings.terminal_width(config)
            return "\n".join(columns(self.running.journal, width=width, last=MOST_LINES, marks=marks(about)))
        except Exception as e:
            return _why_not(e)

    def causes(self) -> tuple[str, ...]:
        """What is likely to be wrong with a trial that has failed; nothing without its journal."""
        running = self.running
        if running.journal is None:
            return ()
        return causes_of(
            running.journal,
            self.settings.solution,
            sites=running.sites,
            own_locks=running.own_locks,
            seen=self.seen,
            broken=self.rules.broken if self.rules else [],
        )

    def about(self, record: Record, e: BaseException | None) -> dict[str, Any]:
        """What there is to say of a trial besides its journal, for the header of that; `e` is what it raised."""
        journal, races = self.running.journal, getattr(self.running, "races", [])
        begun = journal.origin if journal else 0.0
        return {
            "test": record.test,
            "seed": record.seed,
            "mode": record.mode,
            "solution": self.settings.solution.what,
            "digest": _digest(self.settings.solution),
            "cause": record.cause,
            "message": record.message,
            "facts": facts_of(e) if e else "",
            "causes": record.causes,
            "repeat": record.repeat,
            "broken": [
                {"rule": broken.rule, "message": broken.message, "t": broken.time, "events": broken.events}
                for broken in (self.rules.broken if self.rules else [])
            ],
            "races": [
                {"summary": race.summary, "owner": race.owner, "t": race.time - begun, "report": str(race)}
                for race in races[:MOST_RACES]
            ],
        }

    def sections(self) -> list[tuple[str, str]]:
        """What a failure shows before anything that the solution printed, with its titles."""
        sections = []
        if self.running.trial:
            sections.append(("the test so far", "\n".join(self.running.trial.events)))
        if self.no_journal:
            sections.append(("no journal", self.no_journal))
        if self.rules and (self.running.watch or self.rules.broken) and self.rules.lines():
            sections.append(("the paper's rules", "\n".join(self.rules.lines())))
        if isinstance(self.running, VirtualTrial) and self.running.races:
            sections.append(("data races", _races(self.running.races)))
        return sections

    @abstractmethod
    def record(self, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None) -> Record:
        """The outcome, when pytest has its report."""


class LabItem(Run):
    """One trial of one lab test, as an item of pytest's."""

    def __init__(self, item: pytest.Function, trial: int) -> None:
        self.node = NodeId(item.originalname, next((m.name for m in item.iter_markers() if m.name in PARTS), ""), trial)
        self.settings = settings.of(item.config)
        found = item.get_closest_marker("hunt")
        if found:
            known = settings.of_story(self.settings, found)
            if isinstance(known, str):
                pytest.fail(known, pytrace=False)
            self.settings = known
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self._item = item
        s, seed = self.settings, self.settings.seeds.of(trial)
        if s.isolate:
            from labrun.isolated.run import IsolatedRun

            self.running = IsolatedRun(s.solution, self.node.test, seed, self._out, paper=s.paper)
        elif s.sim:
            self.running = VirtualTrial(
                s.solution,
                item.path,
                self.node.test,
                seed,
                self._out,
                schedule=s.schedule,
                race_share=s.race_share if s.race else None,
                journal=s.trials == 1,
                paper=s.paper,
                story=found is not None,
            )
        else:
            self.running = RealTrial(s.solution, item.path, self.node.test, seed, self._out, paper=s.paper)

    def run(self) -> None:
        try:
            with warnings.catch_warnings(record=True) as seen:
                self._run()
        except Exception as e:  # a LabFailure, or in virtual time its world's copy
            if isinstance(e, BdbQuit) or isinstance(e.__cause__, (BdbQuit, pytest.exit.Exception)):
                pytest.exit("Quitting debugger")  # in a thread: that is no failure
            raise
        finally:
            self.seen = seen
            for w in seen:
                if w.category.__name__ in SUSPICIOUS:  # a world's are classes of its own copies
                    self.warnings.append(shown(f"{w.category.__name__}: {w.message}"))
                warnings.warn_explicit(w.message, w.category, w.filename, w.lineno, source=w.source)  # for pytest

    def _run(self) -> None:
        try:
            self._run_trial()
        except Exception as e:
            self._keep_journal(e)
            raise
        if self.running.watch:
            self._out_all(f"  paper: {line}" for line in self.running.watch.lines())
        elif self.settings.trials == 1 and (rules := self.rules) is not None:
            broken = [f"the paper forbids this: {broken.message}" for broken in rules.broken]
            self._out_all(f"  warning: {line}" for line in broken)
            self.warnings += broken

    def _run_trial(self) -> None:
        if isinstance(self.running, VirtualTrial):
            self.running.run_and_check(repeatable=self.settings.sim_check)
            return
        function, arguments = self._item.obj, inspect.signature(self._item.obj).parameters
        others = {name: self._item.funcargs[name] for name in arguments if name != FIXTURE}
        self.running.run(lambda make_config: function(**{FIXTURE: make_config}, **others))
        if self.running.watch:
            self.running.watch.check()

    def _keep_journal(self, e: Exception) -> None:
        """Of many failures of a kind, the first ones have a journal, as with logs; of a single trial each has."""
        if self.settings.trials > 1:
            journals = self._item.config.stash.setdefault(JOURNALS, Counter())
            kind = Kind.of(self.node.test, cause_of(e), message_of(e))
            journals[kind] += 1
            if journals[kind] > (MOST_JOURNALS if settings.given(self._item.config, "--report") else 1):
                self.running.journal = None
            elif isinstance(e, BdbQuit) or isinstance(e.__cause__, BdbQuit):
                pass  # somebody has seen enough
            elif isinstance(self.running, VirtualTrial) and self.running.trial and kind.cause not in COSTLY:
                difference = self.running.repeat_with_journal(e)
                self.no_journal = _different(difference) if difference else ""

    def forget(self) -> None:
        """pytest keeps its items, and with these they would keep every server of the run."""
        self.seen = ()
        self.running.sites = None
        self.running.watch = self.running.journal = None
        self.__dict__.pop("rules", None)
        if self.running.trial:
            self.settings.leaked += self.running.trial.leaked
            self.running.trial = None

    def _out_all(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._out(line)

    def _out(self, line: str) -> None:
        self.lines.append(line)
        terminal = self._item.config.pluginmanager.getplugin("lab terminal")
        if terminal is not None:  # None in a worker, whose lines travel with the report
            terminal.show(line, self._item.path)

    def record(self, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None) -> Record:
        figures = self.running.trial.figures if self.running.trial else None
        judged = self.rules if excinfo or self.settings.trials == 1 else self.running.watch
        return Record(
            nodeid=report.nodeid,
            test=self.node.test,
            trial=self.node.trial,
            seed=self.running.seed,
            mode=self.settings.mode,
            outcome="failed" if excinfo else "passed",
            cause=cause_of(excinfo.value) if excinfo else "",
            message=message_of(excinfo.value) if excinfo else "",
            causes=self.causes() if excinfo else (),
            broken=tuple(shown(broken.message) for broken in judged.broken) if judged else (),
            unchecked=tuple(map(shown, judged.unchecked)) if judged else (),
            seconds=figures.seconds if figures else None,
            servers=figures.servers if figures else None,
            rpcs=figures.rpcs if figures else None,
            bytes=figures.bytes if figures else None,
            commands=figures.commands if figures else None,
            elapsed=round(report.duration, 3),
            repeat=repeat_command(self._item.config, self.settings, self.node),
            lines=tuple(self.lines),
            warnings=tuple(dict.fromkeys(self.warnings))[:MOST_WARNINGS],
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    run = item.stash.get(RUN, None)
    if run is not None:
        report.sections = [(title, cut(text, MAX_OUTPUT)) for title, text in report.sections]
        if report.when == "call":
            record = run.record(report, call.excinfo)
            about = {}
            if run.running.journal is not None and (report.failed or run.settings.picture):
                about = run.about(record, call.excinfo.value if call.excinfo else None)
                record = run.keep(item.config, record, about)
            if report.failed:
                # Whoever reads the journal of a failing trial does it here: run.running.journal, which is None where no
                # server was made, and where failures of the same kind have been shown already. `about` is its header.
                if run.settings.columns and run.running.journal is not None:
                    report.sections.insert(0, (COLUMNS, run.columns(item.config, about)))
                if call.excinfo and isinstance(call.excinfo.value, (RaceFound, PaperBroken)):
                    report.longrepr = str(call.excinfo.value)  # no line of the harness says more
                report.sections[:0] = run.sections()
                if run.settings.isolate and (names := shared(run.settings.solution)):
                    report.sections.append(("shared by all servers of one process, by none here", "\n".join(names)))
                if record.picture:
                    report.sections.append(
                        ("picture", str((settings.report_folder(item.config) or Path()) / record.picture))
                    )
                elif run.no_picture:
                    report.sections.append(("no picture", run.no_picture))
                if record.causes:
                    report.sections.append(("likely causes", "\n".join(record.causes)))
                report.sections.append(("repeat with", record.repeat))
            report.lab = record  # type: ignore[attr-defined]
    return report


def _digest(solution: Solution) -> str:
    """Of a solution's files; "" where one cannot be read any more."""
    try:
        return digest_of(solution.place)
    except OSError:
        return ""


def _why_not(e: Exception) -> str:
    """Why something of a trial cannot be shown, which is no reason to lose the run."""
    if isinstance(e, OSError):
        return f"it cannot be written: {e}"
    return f"it could not be made, which is a defect of ours; please report it: {e!r}"


def _different(difference: str) -> str:
    return (
        f"The trial was repeated for its journal, and went otherwise: {difference}.\n"
        "A seed gives the same run each time, unless the solution takes chance from elsewhere, as --sim-check tells. "
        "If that finds nothing, please report this."
    )


def _races(races: list[Race]) -> str:
    text = "\n\n".join(map(str, races[:MOST_RACES]))
    rest = len(races) - MOST_RACES
    return text if rest <= 0 else f"{text}\n\nand {rest} more, which may go with these"


# --- reports: from worker to controller, and to people -------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: object) -> Generator[None, Any, Any]:
    data = yield
    record = getattr(report, "lab", None)
    if record is not None and data is not None:
        data["lab"] = vars(record)
    return data


@pytest.hookimpl(wrapper=True)
def pytest_report_from_serializable(data: dict[str, Any]) -> Generator[None, Any, Any]:
    record = data.pop("lab", None)
    report = yield
    if record is not None:
        report.lab = Record(
            **{**record, **{name: tuple(value) for name, value in record.items() if isinstance(value, list)}}
        )
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """A single run shows the lab's lines in place of dots."""
    if hasattr(report, "lab") and settings.of(config).trials == 1 and config.get_verbosity() <= 0:
        return report.outcome, "", "FAILED" if report.failed else ""
    return None


def pytest_report_header(config: pytest.Config) -> str | None:
    return _header(settings.of(config)) if settings.asked(config) else None


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    if settings.asked(config) or settings.known(config) is None or config.get_verbosity() < 0:
        return None  # it stands in the header, or there is no lab test
    return _header(settings.of(config))


def _header(s: Settings) -> str:
    trials = f", {s.trials} trials" if s.trials > 1 else ""
    taken = f"; not available here, as another plugin or conftest.py has them: {', '.join(s.taken)}" if s.taken else ""
    return f"lab: --raft {s.solution.what} --seed {s.seeds.first}{trials}, {s.how}{taken}"


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    folder = settings.given(config, "--report")
    if folder is not None and not hasattr(config, "workerinput") and not config.option.collectonly:
        s = settings.of(config)
        try:
            report = Report(config.invocation_params.dir / folder, s.solution.place)
            report.begin(
                solution=s.solution.what,
                seed=s.seeds.first,
                trials_asked=s.trials,
                mode=s.mode,
                race=s.race,
            )
        except ReportError as e:
            raise pytest.UsageError(str(e)) from None
        config.pluginmanager.getplugin("lab terminal").report = report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that could not be ended must not keep the process alive: Python waits for those that are no daemons."""
    isolated = sys.modules.get("labrun.isolated.run")
    if isolated is not None:
        isolated.close()
    s = settings.known(config)
    if s and any(thread.is_alive() for thread in s.leaked):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(EXIT_STATUS, 1))
