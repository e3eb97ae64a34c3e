"""Which shorter stories to try in place of one that fails.

`shorter` yields them, the boldest first: fewer servers, then half of the steps left out, a quarter, and so on to single
ones; then single steps made plainer. Whoever finds one that still fails asks again with that one, until none of them
does. (Hypothesis did the same in five times the runs, and took 1.5 ms for drawing a story where 0.05 are enough; it
knows choices, and no steps.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labrun.hunt.stories import Step, Story

__all__ = ["shorter"]

LONG = 1000  # ms: a pause that takes the place of several


def shorter(story: Story) -> Iterator[Story]:
    """Stories that are shorter or plainer than this one, each at most a few changes away from it."""
    for servers in (3, 5):
        if servers < story.servers:
            yield replace(story, servers=servers)
    steps = story.steps
    for kept in _fewer(steps):
        yield replace(story, steps=kept)
    for i, step in enumerate(steps):
        for plainer in _plainer(step):
            yield replace(story, steps=(*steps[:i], plainer, *steps[i + 1 :]))


def _fewer(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    size = len(steps)
    while size:
        for start in range(len(steps) - size, -1, -size):  # later steps are more often needless
            before, after = steps[:start], steps[start + size :]
            yield before + after
            if before and any(step.pause for step in steps[start : start + size]) and before[-1].pause != LONG:
                yield (*before[:-1], before[-1]._replace(pause=LONG), *after)
        size //= 2


def _plainer(step: Step) -> Iterator[Step]:
    """The same step, or its pause alone, with a simpler number in it."""
    if step.kind != "wait":
        yield Step("wait", pause=step.pause)
    if step.pause:
        yield step._replace(pause=0)
    if step.who:
        yield step._replace(who=0)
    if step.much > 1:
        yield step._replace(much=1)
    if step.kind in ("burst_everywhere", "trickle"):
        yield step._replace(kind="burst")
    if step.kind == "partition":
        yield step._replace(kind="cut", who=0)
