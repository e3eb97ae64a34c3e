"""A hunt: draw stories until one fails, then make it shorter.

Story number n is drawn from a stream that the hunt's seed and n name, and so is the seed of its world. A story that
fails in another way than the first one has, for the shortening, passed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from labrun.hunt.drawing import draw
from labrun.hunt.running import How, Outcome, run
from labrun.hunt.shortening import shorter
from labrun.hunt.stories import Story
from labrun.settings import Amount

__all__ = ["Found", "Hunt"]

MOST_RUNS = 200  # of shortening
SEEDS_TRIED = (1, 5)  # of the world, for each shorter story: first all with one, then what is left with more
RUNS_BETWEEN_COLLECTIONS = 25
WORLDS = 100_000  # seeds to draw from: short enough to be read


@dataclass
class Found:
    """A failure, and how it was come by."""

    outcome: Outcome  # of the shortest story so far
    number: int  # of the story that failed first, from 1 on; 0: it was kept from before
    first: Outcome  # as it was drawn
    cpu: float  # s until it failed
    runs: int = 0  # of shortening


@dataclass
class Hunt:
    """One hunt. `progress` is called after each run of a story."""

    how: How
    seed: int
    amount: Amount
    progress: Callable[[Hunt], None] = lambda hunt: None
    stories: int = 0
    states: set[int] = field(default_factory=set)  # in which the clusters were seen
    found: Found | None = None
    _runs: int = 0
    hunting: float = 0.0  # s of real time until the last story, without shortening
    began: float = field(default_factory=time.monotonic)
    cpu_began: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def cpu(self) -> float:
        return time.process_time() - self.cpu_began

    @property
    def left(self) -> bool:
        """Whether there is something left of the amount."""
        if self.amount.stories is not None:
            return self.stories < self.amount.stories
        return self.seconds < (self.amount.seconds or 0)

    def run(self) -> Found | None:
        """Hunt until something is found or the amount is used up. On Ctrl-C in the shortening, what there is so far.

        Raises SolutionError or labsim.Unsupported if there is nothing to hunt.
        """
        collects = gc.isenabled()
        gc.disable()  # worlds leave much behind; see _run
        gc.collect()
        gc.freeze()  # and what is there by now stays: a collection need not look at it
        try:
            while self.left and not self.found:
                self._try_next()
            if self.found:
                self._shorten(self.found)
        except KeyboardInterrupt:
            if not self.found:
                raise
        finally:
            gc.unfreeze()
            if collects:
                gc.enable()
        return self.found

    def try_again(self, story: Story, seed: int) -> Found | None:
        """A story that failed in an earlier hunt."""
        outcome = self._run(story, seed)
        if outcome.kind:
            self.found = Found(outcome, 0, outcome, self.cpu)
        return self.found

    def _try_next(self) -> None:
        number = self.stories + 1
        rng = Random(f"{self.seed}:{self.how.test}:story {number}")
        outcome = self._run(draw(rng, self.how.part), rng.randrange(WORLDS))
        self.stories = number
        self.states |= outcome.states
        self.hunting = self.seconds
        if outcome.kind:
            self.found = Found(outcome, self.stories, outcome, self.cpu)
        self.progress(self)

    def _run(self, story: Story, seed: int) -> Outcome:
        self._runs += 1
        if self._runs % RUNS_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        return run(self.how, story, seed)

    def _shorten(self, found: Found) -> None:
        tried: set[tuple[Story, int]] = set()
        for seeds in SEEDS_TRIED:
            while self._step_shorter(found, seeds, tried):
                pass

    def _step_shorter(self, found: Found, seeds: int, tried: set[tuple[Story, int]]) -> bool:
        """Whether there is a shorter story that fails in the same way; it takes the place of the found one."""
        seed = found.outcome.seed
        for story in shorter(found.outcome.story):
            for once in ((story, seed + k) for k in range(seeds)):
                if once in tried:
                    continue
                if found.runs >= MOST_RUNS:
                    return False
                tried.add(once)
                found.runs += 1
                outcome = self._run(*once)
                self.progress(self)
                if outcome.kind == found.first.kind and _length(outcome) < _length(found.outcome):
                    found.outcome = outcome
                    return True
        return False


def _length(outcome: Outcome) -> tuple[int, ...]:
    """What is less to read is shorter; then what has fewer servers, steps (some may have no lines) and numbers."""
    story = outcome.story
    return (
        outcome.steps + (story.servers - 3) // 2,
        sum(line.count("\n") + 1 for line in outcome.lines),
        len(story.steps),
        sum(step.kind != "wait" for step in story.steps),
        sum(step.pause for step in story.steps),
        sum(step.who + step.much for step in story.steps),
    )
