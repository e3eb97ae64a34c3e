"""A story, and its way into lines of a lab test.

Steps are drawn without knowing what will happen: "cut off the second of those that are connected". What they mean is
decided in the running cluster (`Stage`), and comes out as lines of Python, which are run just as they are printed: what
a reader sees is what happened. A step that has no meaning at its time (nobody is down to be restarted) has no lines.

Servers are counted from the one that leads, as the wire shows it without asking anybody; so `who` 0 is the leader if
there is one among those that the step may take.
"""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import NamedTuple

from labrun.paper import Watch
from raft.config import Config

__all__ = ["COMMANDS", "Stage", "Step", "Story", "as_test"]

__tracebackhide__ = True

COMMANDS = {"2A": 0, "2B": 25, "2C": 25, "2D": 45}
"""How many commands a story may have: a leader that goes back one entry at each heartbeat must still get there."""

CALL_MAY_HANG = 7  # s: a Call to a server that is cut off may take so long, even if that is healed meanwhile
FINAL_COMMAND = 100  # those of bursts count from here


class Step(NamedTuple):
    """One step of a story: `kind` is the name of a method of Stage, which says what `who` and `much` are for."""

    kind: str
    who: int = 0
    much: int = 1
    pause: int = 0  # ms, after it


@dataclass(frozen=True)
class Story:
    part: str
    servers: int
    steps: tuple[Step, ...]


class Stage:
    """A cluster in which a story is being told. `lines` are those that were run, also the one that failed."""

    def __init__(self, story: Story, watch: Watch, *, patient: bool) -> None:
        self.story = story
        self.lines: list[str] = []
        self.told: list[Step] = []  # those steps that had lines; without the others the story is the same
        self.steps = 0  # how many of the lines are no healing
        self.checking = False  # whether the last line asks if all is well again
        self.states: set[int] = set()  # in which the cluster was seen
        self._watch = watch
        self._patient = patient
        self._down: set[int] = set()
        self._cut: set[int] = set()
        self._split = False  # whether some wires between those that are connected are cut
        self._lossy = self._reordering = False
        self._commands = 0

    def tell(self, make_config: Callable[..., Config]) -> None:
        """Run the story; it ends early when a rule of the paper is broken. Raises what the verbs raise."""
        with make_config(self.story.servers, snapshot=self.story.part == "2D") as cfg:
            for line in self._story():
                self.lines.append(line)
                exec(_compiled(line), {"cfg": cfg})
                self.states.add(self._watch.state())
                if self._watch.broken:
                    return

    def _story(self) -> Iterator[str]:
        for step in self.story.steps:
            lines = getattr(self, step.kind)(step.who, step.much)
            if step.pause:
                lines = itertools.chain(lines, [f"cfg.sleep({step.pause / 1000:g})"])
            for number, line in enumerate(lines):
                if number == 0:
                    self.told.append(step)
                self.steps += 1
                yield line
        yield from self._heal()
        self.checking = True
        if self._patient:
            yield f"cfg.sleep({CALL_MAY_HANG})"
        if self._patient or self.story.part == "2A":
            yield "cfg.checkOneLeader()"
        if self.story.part != "2A":
            yield f"cfg.one({FINAL_COMMAND}, {self.story.servers}, True)"

    def _heal(self) -> Iterator[str]:
        yield from self.calm()
        yield from _each(self._down, "cfg.start1({0})\ncfg.connect({0})")
        yield from _each(self._live if self._split else self._cut, "cfg.connect({})")

    # --- who ---

    @property
    def _all(self) -> set[int]:
        return set(range(self.story.servers))

    @property
    def _live(self) -> set[int]:
        return self._all - self._down

    def _order(self, among: Iterable[int]) -> list[int]:
        """The one that leads first, then the others."""
        leader = self._watch.leader
        return sorted(among, key=lambda i: (i != leader, i))

    def _choose(self, who: int, among: set[int]) -> Iterator[int]:
        """One of them, if there are any."""
        if among:
            yield self._order(among)[who % len(among)]

    # --- steps: each yields its lines ---

    def wait(self, who: int = 0, much: int = 0) -> Iterator[str]:
        """Nothing but the pause after it."""
        yield from ()

    def look(self, who: int = 0, much: int = 0) -> Iterator[str]:
        """Ask all who leads: what they say is held against the paper's rules."""
        yield from _each(self._live, "cfg.GetState({})")

    def cut(self, who: int, much: int = 0) -> Iterator[str]:
        for i in self._choose(who, self._live - self._cut):
            self._cut.add(i)
            yield f"cfg.disconnect({i})"

    def join(self, who: int, much: int = 0) -> Iterator[str]:
        for i in self._choose(who, self._cut):
            self._cut.discard(i)
            yield f"cfg.connect({i})"

    def join_all(self, who: int = 0, much: int = 0) -> Iterator[str]:
        yield from _each(self._live if self._split else self._cut, "cfg.connect({})")
        self._cut.clear()
        self._split = False

    def partition(self, who: int, much: int = 0) -> Iterator[str]:
        """Two sets of those that are up: the bits of `who` say which are on the side of the leader."""
        order = self._order(self._live)
        one = sorted(i for place, i in enumerate(order) if place == 0 or who >> place & 1)
        other = sorted(set(order) - set(one))
        if other:
            self._cut.clear()
            self._split = True
            yield f"cfg.partition({one}, {other})"

    def lossy(self, who: int = 0, much: int = 0) -> Iterator[str]:
        if not self._lossy:
            self._lossy = True
            yield "cfg.setunreliable(True)"

    def reorder(self, who: int = 0, much: int = 0) -> Iterator[str]:
        if not self._reordering:
            self._reordering = True
            yield "cfg.setlongreordering(True)"

    def calm(self, who: int = 0, much: int = 0) -> Iterator[str]:
        if self._lossy:
            self._lossy = False
            yield "cfg.setunreliable(False)"
        if self._reordering:
            self._reordering = False
            yield "cfg.setlongreordering(False)"

    def burst(self, who: int, much: int) -> Iterator[str]:
        """`much` commands for one server."""
        much = min(much, COMMANDS[self.story.part] - self._commands)
        for i in self._choose(who, self._live):
            yield from self._start(f"cfg.rafts[{i}].Start({{}})", much)

    def burst_everywhere(self, who: int, much: int) -> Iterator[str]:
        """`much` commands for each server; those that do not lead refuse them."""
        left = COMMANDS[self.story.part] - self._commands
        for i in sorted(self._live):
            yield from self._start(f"cfg.rafts[{i}].Start({{}})", min(much, left // max(1, len(self._live))))

    def trickle(self, who: int, much: int) -> Iterator[str]:
        """Twice `much` commands for one server, so close to each other that their messages overtake."""
        much = min(2 * much, COMMANDS[self.story.part] - self._commands)
        for i in self._choose(who, self._live):
            yield from self._start(f"cfg.rafts[{i}].Start({{}})\ncfg.sleep(0.01)", much)

    def _start(self, line: str, much: int) -> Iterator[str]:
        if much > 0:
            first = FINAL_COMMAND + 1 + self._commands
            self._commands += much
            if much == 1:
                yield line.format(first)
            else:
                yield f"for x in range({first}, {first + much}):\n" + textwrap.indent(line.format("x"), "    ")

    def crash(self, who: int, much: int = 0) -> Iterator[str]:
        for i in self._choose(who, self._live):
            self._down.add(i)
            self._cut.discard(i)
            yield f"cfg.crash1({i})"

    def restart(self, who: int, much: int = 0) -> Iterator[str]:
        for i in self._choose(who, self._down):
            self._down.discard(i)
            yield f"cfg.start1({i})\ncfg.connect({i})"

    def bounce(self, who: int, much: int = 0) -> Iterator[str]:
        """Crash and restart at once."""
        for i in self._choose(who, self._live):
            self._cut.discard(i)
            yield f"cfg.start1({i})\ncfg.connect({i})"


def _each(servers: Iterable[int], line: str) -> Iterator[str]:
    """The line for each of them, as one."""
    known = sorted(servers)
    if len(known) == 1:
        yield line.format(known[0])
    elif known:
        yield f"for i in {', '.join(map(str, known))}:\n" + textwrap.indent(line.format("i"), "    ")


@functools.lru_cache(maxsize=10_000)
def _compiled(line: str) -> CodeType:
    return compile(line, "<story>", "exec")


def as_test(story: Story, lines: list[str], mark: str) -> str:
    """The lines of a story that was run as a file of one lab test; `mark` is for its marker, such as "seed=7"."""
    snapshot = ", snapshot=True" if story.part == "2D" else ""
    body = [f"        {line}" for told in lines or ["pass"] for line in told.split("\n")]
    head = [
        "import pytest",
        "",
        "",
        f'@getattr(pytest.mark, "{story.part}")',
        f"@pytest.mark.hunt({mark})",
        f"def TestHunt{story.part}(make_config):",
        f"    with make_config({story.servers}{snapshot}) as cfg:",
    ]
    return "\n".join([*head, *body, ""])
