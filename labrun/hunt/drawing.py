"""Which stories there are, and how one is drawn.

Each story leaves some kinds of step out (swarm testing): a bug that needs two crashes close together is found in
stories that do little else.
"""

from __future__ import annotations

from random import Random

from labrun.hunt.stories import Step, Story

__all__ = ["KINDS", "draw"]

SERVERS = (3, 3, 3, 3, 3, 3, 5, 5, 5, 7)
PAUSES = (0, 0, 0, 1, 3, 10, 30, 100, 300, 300, 600, 1000)  # ms
FIRST_PAUSES = (0, 300, 600, 1000, 1000, 1000)  # until somebody leads
LONG, WATCHFUL = 300, 0.3  # ms; the share of stories in which all are asked who leads after each such pause
MEAN_STEPS, MOST_STEPS = 8, 40
MOST_AT_ONCE = {"2A": 0, "2B": 4, "2C": 4, "2D": 12}  # commands; in 2D services make a snapshot every ten

_NETWORK = ("wait", "cut", "join", "join_all", "partition", "look", "lossy", "reorder", "calm")
_COMMANDS = ("burst", "burst_everywhere", "trickle")
_CRASHES = ("crash", "restart", "bounce")

KINDS = {
    "2A": _NETWORK,
    "2B": _NETWORK + _COMMANDS,
    "2C": _NETWORK + _COMMANDS + _CRASHES,
    "2D": _NETWORK + _COMMANDS + _CRASHES,
}
"""The kinds of step that a part of the lab allows."""


def draw(rng: Random, part: str) -> Story:
    kinds = [kind for kind in KINDS[part] if rng.random() < 0.5] or list(KINDS[part])
    count = min(int(rng.expovariate(1 / MEAN_STEPS)) + 1, MOST_STEPS)
    steps = [Step("wait", pause=rng.choice(FIRST_PAUSES))]
    watchful = rng.random() < WATCHFUL
    for _ in range(count):
        steps.append(_step(rng, rng.choice(kinds), part))
        if watchful and steps[-1].pause >= LONG:
            steps.append(Step("look"))
    return Story(part, rng.choice(SERVERS), tuple(steps))


def _step(rng: Random, kind: str, part: str) -> Step:
    return Step(kind, rng.randrange(64), rng.randint(1, MOST_AT_ONCE[part] or 1), rng.choice(PAUSES))
