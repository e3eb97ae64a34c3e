"""One lab test in virtual time: the test, the harness and the solution, all loaded afresh into a labsim world.

`VirtualTrial.run` raises what the test raises. Two minutes of virtual time are the lab's own limit, so a world that
does not end by then fails with the lab's message. `check_repeatable` runs the same trial in another process, whose
string hashes differ, and compares the traces. `repeat_with_journal` runs one that failed again, and has its journal.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from labrun import HARNESS, HOME, LAB
from labrun.evidence import Sites
from labrun.integrity import Snapshot, check_unchanged
from labrun.paper import Watch
from labrun.patience import PATIENCE, calls_into
from labrun.printed import Printed
from labrun.record import cause_of, message_of
from labrun.settings import Seeds
from labrun.solution import NAME, Solution, SolutionError, check_offers_make, load_error, nothing_written
from labsim import Endless, Patience, SimulationError, Stuck, World
from labsim.errors import OwnLock
from labsim.races import Race
from labsim.scheduler import Schedule, Wakeups
from labsim.trace import Event, compare
from labwatch import RING, Journal
from raft.config import TIME_LIMIT, Config, LabFailure, Trial

__tracebackhide__ = True

SWITCH: dict[Schedule, float] = {"random": 0.1, "pct": 0.002}  # by priority, few switches reach deep

# What a machine adds to the delays of the lab; bugs that live on late messages and split votes hide without it. In ns:
# at least, and the mean of what comes on top. Go's round trips were measured to take 71 to 1,085 us, 141 to 256 in the
# middle, and sleeps to end late by 50 us to milliseconds. A request and its reply cost one signal each. Starts are as
# late as it takes for RPCs that are started together to overtake each other as goroutines do.
WAKEUPS = Wakeups(start=(20_000, 600_000), signal=(20_000, 70_000), timer=(50_000, 500_000))
ENCODE_NS, DECODE_NS = 40, 12  # of processor time for each byte, measured on long logs


class RaceFound(Exception):
    """The lab's checks may have passed, but the solution has data races."""

    cause = "race"

    def __init__(self, races: list[Race]) -> None:
        super().__init__(f"data race on {races[0].summary}")
        self.races = races


class VirtualTrial:
    """A trial of the test function `test` in `file`; `out` receives the lab's lines.

    journal   whether its events are kept. Without, and without `paper`, nobody is told of any
    paper     whether the paper's rules are judged while it runs
    story     whether it is a story of a hunt: what breaks a rule is then said in place of what the lab finds after it
    """

    def __init__(
        self,
        solution: Solution,
        file: Path,
        test: str,
        seed: int,
        out: Callable[[str], None],
        *,
        schedule: Schedule = "random",
        race_share: float | None = None,
        journal: bool = False,
        paper: bool = False,
        story: bool = False,
    ) -> None:
        self.solution = solution
        self.file = file
        self.test = test
        self.seed = seed
        self.out = out
        self.trial: Trial | None = None  # once the test has made its servers
        self.events: list[Event] = []
        self.races: list[Race] = []
        self.journal: Journal | None = None  # with `journal`, or after repeat_with_journal; the last RING events of it
        self.sites: Sites | None = None  # of its Calls, likewise
        self.watch: Watch | None = None  # with `paper`
        self.own_locks: Sequence[OwnLock] = ()  # threads that waited for themselves when it failed
        self._keep = journal
        self._paper = paper
        self._story = story
        self._schedule: Schedule = schedule
        self._race_share = race_share

    def run(self, trace: bool = False) -> None:
        """Run the test; with `trace`, keep the events of its world. Raises what the test raises, or SimulationError."""
        world = World(
            Seeds.streams(self.seed, self.test),
            fresh=[*LAB, self.file.parent, self.solution.root],
            limit=TIME_LIMIT,
            patience=Patience(PATIENCE, calls_into(self.solution, self.file)),
            schedule=self._schedule,
            switch=SWITCH[self._schedule],
            wakeups=WAKEUPS,
            watch=self._is_solutions if self._race_share is not None else None,
            share=self._race_share or 0.0,
            describe=_which_server,
            trace=trace,
        )

        harness = Snapshot([])
        journal = Journal(world.now, RING if self._keep else 0) if self._keep or self._paper else None
        self.journal = journal if self._keep else None
        self.sites = Sites(self.journal) if self.journal else None
        self.watch = Watch.live(journal, self.test, virtual=True) if journal and self._paper else None

        context = ExitStack()

        def make_config(*args: Any, **kwargs: Any) -> Config:
            nonlocal harness
            out = self.out
            if self.journal is not None:
                get_ident = world.import_module("threading").get_ident
                out = context.enter_context(Printed(self.journal, get_ident)).renewed_after(out)
            harness = Snapshot(map(world.import_module, HARNESS))
            make = _load(world, self.solution).Make
            self.trial = world.import_module("raft.config").Trial(
                make, Seeds.streams(self.seed, self.test), out, journal
            )
            return self.trial.make_config(*args, **kwargs)

        path = sys.path[:]
        sys.path[:] = [str(HOME), *path, str(self.solution.home)]
        try:
            with context, nothing_written(), world:
                _charge_encoding(world.import_module("labgob"), world.spend)
                if world.detector is not None:
                    _watch_encoding(world.import_module("labgob"), world.detector)
                world.run(self._test(world), make_config)
                check_unchanged(harness)
        except Endless as e:
            raise LabFailure("test took longer than 120 seconds", str(e)) from None
        except Stuck as e:
            self.own_locks = e.own_locks
            raise LabFailure(f"{e.function} has not returned for {PATIENCE:g} s", str(e), cause="deadlock") from None
        except SimulationError as e:
            self.own_locks = e.own_locks
            raise
        finally:
            sys.path[:] = path
            self.events = world.trace or []
            if world.detector is not None:
                self.races = sorted(world.detector.races, key=Race.plainness)

    def _test(self, world: World) -> Callable[[Callable[..., Config]], object]:
        """The test itself."""
        test: Callable[[Callable[..., Config]], object] = getattr(world.load(self.file.stem, self.file), self.test)
        return test

    def run_and_check(self, *, repeatable: bool) -> None:
        """Run the test; then, if asked, compare it with another run of it; then tell of races."""
        try:
            self.run(trace=repeatable)
        except Exception:
            if self.watch and self._story:
                self.watch.check()
            raise
        finally:
            if repeatable:
                self.check_repeatable()
        if self.races:
            raise RaceFound(self.races)
        if self.watch:
            self.watch.check()

    def repeat_with_journal(self, failure: Exception) -> str:
        """Run a trial that has failed with `failure` again, unseen, for its journal. How the two differ, or "".

        The same seed gives the same run, unless the solution takes chance from elsewhere; if it does not, a difference
        is a defect of the harness. Then there is no journal.
        """
        again = VirtualTrial(
            self.solution,
            self.file,
            self.test,
            self.seed,
            lambda line: None,
            schedule=self._schedule,
            race_share=self._race_share,
            journal=True,
            paper=self._paper,
        )
        ended: Exception | None = None
        hook, sys.breakpointhook = sys.breakpointhook, lambda *args, **kwargs: None
        with warnings.catch_warnings(), open(os.devnull, "w") as nothing:
            warnings.simplefilter("ignore")
            try:
                with redirect_stdout(nothing), redirect_stderr(nothing):
                    again.run_and_check(repeatable=False)
            except Exception as e:
                ended = e
            finally:
                sys.breakpointhook = hook
        first, second = self._ending(failure), again._ending(ended)
        if first == second:
            self.sites = again.sites
            self.journal, self.watch = again.journal, again.watch  # whose events have the same numbers
            return ""
        return f"the first run ended with {first}, the second with {second}"

    def _ending(self, failure: Exception | None) -> str:
        """How a run ended, in words that are the same for two runs that are."""
        said = re.sub("0x[0-9a-f]+", "0x...", message_of(failure)) if failure else ""
        figures = f", after {self.trial.figures}" if self.trial else ""
        return f"{cause_of(failure)}: {said}{figures}" if failure else f"a pass{figures}"

    def _is_solutions(self, path: str) -> bool:
        """Whether --race watches a file."""
        return Path(path) != self.file and self.solution.owns(path)

    def check_repeatable(self) -> None:
        """Run a traced trial again in a second process. Raises LabFailure with the first event that differs, if any."""
        how = {"schedule": self._schedule, "race_share": self._race_share}
        trial = json.dumps([vars(self.solution), self.file, self.test, self.seed, how], default=str)
        environment = os.environ | {
            "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        again = subprocess.run(
            [sys.executable, "-m", "labrun.virtual", trial], env=environment, capture_output=True, text=True
        )
        if again.returncode != 0:
            raise LabFailure("the second run of --sim-check did not end", again.stderr[-2000:], cause="repeat")
        difference = compare(json.loads(json.dumps(self.events)), json.loads(again.stdout))
        if difference:
            raise LabFailure("the solution is not deterministic", difference, cause="repeat")


def _which_server(obj: object) -> str:
    """Which one an object of the solution is, in a race's report."""
    me = getattr(obj, "__dict__", {}).get("me")
    return f"server {me}" if isinstance(me, int) else ""


def _charge_encoding(labgob: Any, spend: Callable[[int], None]) -> None:
    """Encoding takes time by the byte, as on a real machine: whoever saves a long log at each turn gets less done."""
    encode, decode, fill = labgob.encode, labgob.decode, labgob.fill

    def encode_charged(value: Any) -> bytes:
        data: bytes = encode(value)
        spend(len(data) * ENCODE_NS)
        return data

    def decode_charged(data: bytes, T: Any) -> Any:
        spend(len(data) * DECODE_NS)
        return decode(data, T)

    def fill_charged(data: bytes, instance: Any) -> Any:
        spend(len(data) * DECODE_NS)
        return fill(data, instance)

    labgob.encode, labgob.decode, labgob.fill = encode_charged, decode_charged, fill_charged


def _watch_encoding(labgob: Any, detector: Any) -> None:
    """To encode is to read all of a value, and a reply that arrives is written, in the thread of the Call."""
    encode, fill = labgob.encode, labgob.fill

    def encode_watched(value: Any) -> bytes:
        detector.read_deep(value)
        encoded: bytes = encode(value)
        return encoded

    def fill_watched(data: bytes, instance: Any) -> Any:
        detector.write_attributes(instance)
        return fill(data, instance)

    labgob.encode, labgob.fill = encode_watched, fill_watched


def _load(world: World, solution: Solution) -> ModuleType:
    try:
        if solution.name != NAME:
            module = world.import_module(solution.name)
        else:
            module = world.load(NAME, solution.file, [solution.file.parent] if solution.package else None)
    except (KeyboardInterrupt, SimulationError):
        raise
    except BaseException as e:
        raise SolutionError(f"cannot load the solution {solution.what}: {load_error(e)}") from None
    check_offers_make(module, solution.what)
    return module


def main(trial: str) -> None:
    """The second run of --sim-check: print the trace as JSON, whatever the outcome."""
    stdout, sys.stdout = sys.stdout, sys.stderr  # what the solution prints is not to come in between
    solution, file, test, seed, how = json.loads(trial)
    for name in ("file", "home", "root"):
        solution[name] = Path(solution[name])
    simulation = VirtualTrial(Solution(**solution), Path(file), test, seed, lambda line: None, **how)
    try:
        simulation.run(trace=True)
    except Exception as e:
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
    json.dump(simulation.events, stdout)


if __name__ == "__main__":
    main(sys.argv[1])
