"""The record of everything a world's scheduler did, and what to say when two of them differ.

An event is `(step, nanoseconds of virtual time, thread name, what it does)`. A trace is a list of events, and survives
json. It is the same for the same seed and program in every process and on every machine; when it is not, the program
takes something from outside the world, and `compare` shows where that first became visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Event", "compare"]

Event = tuple[int, int, str, str]

_BEFORE, _AFTER = 6, 3  # events of context

_CAUSES = """\
Likely causes, in the order of their frequency:
- the order of a set, of strings above all: it depends on PYTHONHASHSEED (sort it, or use a dict or a list)
- sorting or choosing by id() or hash(), or a dict keyed by them
- os.urandom, secrets, uuid.uuid4, random.SystemRandom: not under the world's seed (use random)
- a real clock or real state of the machine: os.times, os.getpid, file times, environment variables
- state kept between trials outside the program's own modules, such as files"""


def compare(a: Iterable[Sequence[object]], b: Iterable[Sequence[object]]) -> str | None:
    """None when two traces are equal, lengths included; otherwise a report of the first difference."""
    left, right = [tuple(event) for event in a], [tuple(event) for event in b]
    if left == right:
        return None
    first = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), min(len(left), len(right)))
    lines = [f"two runs with the same seed differ from event {first} on ({len(left)} and {len(right)} events in all)"]
    if first > 0:
        lines += ["", "what they have in common, at its end:"]
        lines += [_line(event) for event in left[max(0, first - _BEFORE) : first]]
    for title, events in (("first run:", left), ("second run:", right)):
        lines += ["", title]
        lines += [_line(event) for event in events[first : first + _AFTER + 1]] or ["    (has ended)"]
    return "\n".join([*lines, "", _CAUSES])


def _line(event: tuple[object, ...]) -> str:
    step, nanoseconds, thread, what = event
    assert isinstance(nanoseconds, int)
    return f"    {step:>7} {nanoseconds / 1e9:13.6f} s  {thread}: {what}"
