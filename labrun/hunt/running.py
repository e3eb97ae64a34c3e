"""One story in one world of virtual time, and how it fails.

`run` tells it once, or twice: one that fails only because all is not well again soon enough (labrun.hunt) has another
chance, in which every Call from before has ended. Raises SolutionError and labsim.Unsupported, which say that there is
nothing to hunt, and what ends a run (Ctrl-C).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labrun.hunt.stories import Stage, Story
from labrun.paper import PaperBroken
from labrun.record import Cause, cause_of, message_of
from labrun.solution import Solution, SolutionError
from labrun.virtual import VirtualTrial
from labsim import Unsupported, World
from labsim.scheduler import Schedule
from raft.config import Config

__all__ = ["How", "Outcome", "run", "watched"]

__tracebackhide__ = True


@dataclass(frozen=True)
class How:
    """What all stories of a hunt have in common."""

    solution: Solution
    part: str
    schedule: Schedule = "random"
    race_share: float | None = None  # None: without the race detector

    @property
    def test(self) -> str:
        return f"TestHunt{self.part}"


@dataclass
class Outcome:
    """What became of a story. Of one that has passed, kind is None."""

    story: Story
    seed: int
    lines: list[str] = field(default_factory=list)  # as they were run
    patient: bool = False  # whether it was given 7 s before the last check
    steps: int = 0  # lines of the story itself, without those that heal and check
    states: set[int] = field(default_factory=set)
    kind: tuple[Cause, str] | None = None  # what failures of one kind have in common
    message: str = ""


class _StoryTrial(VirtualTrial):
    """A trial whose test is a story."""

    def __init__(self, how: How, story: Story, seed: int, *, patient: bool, journal: bool = False) -> None:
        super().__init__(
            how.solution,
            Path(__file__),
            how.test,
            seed,
            _nobody_listens,
            schedule=how.schedule,
            race_share=how.race_share,
            journal=journal,
            paper=True,
            story=True,
        )
        self._told = story
        self._patient = patient
        self.stage: Stage | None = None

    def _test(self, world: World) -> Callable[[Callable[..., Config]], object]:
        assert self.watch is not None
        self.stage = Stage(self._told, self.watch, patient=self._patient)
        return self.stage.tell


def run(how: How, story: Story, seed: int) -> Outcome:
    outcome, impatient = _run(how, story, seed, patient=False)
    if impatient:
        return _run(how, story, seed, patient=True)[0]
    return outcome


def watched(how: How, outcome: Outcome) -> VirtualTrial:
    """A story as it was run, with its journal, for whoever shows failures. It has not been run again yet."""
    return _StoryTrial(how, outcome.story, outcome.seed, patient=outcome.patient, journal=True)


def _run(how: How, story: Story, seed: int, *, patient: bool) -> tuple[Outcome, bool]:
    """The outcome; and whether it is only that the last check did not hold."""
    trial = _StoryTrial(how, story, seed, patient=patient)
    outcome = Outcome(story, seed, patient=patient)
    impatient = False
    try:
        trial.run_and_check(repeatable=False)
    except (SolutionError, Unsupported):
        raise
    except Exception as e:
        outcome.kind = _kind(e)
        outcome.message = message_of(e)
        found_late = trial.trial is not None and trial.trial.failure is not None
        if trial.stage and trial.stage.checking and outcome.kind[0] == "lab" and not found_late:
            impatient = not patient
    if trial.stage:
        stage = trial.stage
        outcome.story = replace(story, steps=tuple(stage.told))
        outcome.lines, outcome.steps, outcome.states = stage.lines, stage.steps, stage.states
    trial.trial = None
    return outcome, impatient


def _kind(e: Exception) -> tuple[Cause, str]:
    if isinstance(e, PaperBroken):
        return "paper", e.broken[0].rule
    return cause_of(e), re.sub(r"\d+", "N", message_of(e))


def _nobody_listens(line: str, **_: Any) -> None:
    pass
