"""Which schedules a world can draw: all that the program allows, which small programs show by enumeration.

Each program is given as the steps of its threads. A model goes through all orders in which these can be taken; a world
runs the same steps as ordinary Python under many seeds. What they have logged must come to the same set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labsim import World

Steps = dict[str, list[str]]

PROGRAMS: dict[str, Steps] = {
    "a thread may run before its starter goes on, or after": {
        "main": ["start a", "log", "start b", "log"],
        "a": ["log", "log"],
        "b": ["log"],
    },
    "threads that are started by threads": {
        "main": ["start a", "log", "log"],
        "a": ["start b", "log"],
        "b": ["log"],
    },
    "whoever joins goes on after the end, in any order with the others": {
        "main": ["start a", "start b", "join a", "log", "join b", "log"],
        "a": ["log", "log"],
        "b": ["log"],
    },
    "a hand-over wakes one, and lets both go on": {
        "main": ["start a", "start b", "open", "log", "open"],
        "a": ["wait", "log"],
        "b": ["wait", "log"],
    },
    "a call: a request is handed over, an answer handed back, and others run meanwhile": {
        "main": ["start server", "start other", "open request", "wait reply", "log"],
        "server": ["wait request", "log", "open reply", "log"],
        "other": ["log"],
    },
}

PROGRAM = """
import threading
from collections import defaultdict

def main(steps):
    logged, threads, mu = [], {}, threading.Lock()
    gates = defaultdict(lambda: threading.Semaphore(0))
    def run(name):
        for step in steps[name]:
            verb, _, of = step.partition(" ")
            if verb == "start":
                threads[of] = threading.Thread(target=run, args=(of,))
                threads[of].start()
            elif verb == "join": threads[of].join()
            elif verb == "open": gates[of].release()
            elif verb == "wait": gates[of].acquire()
            else:
                with mu: logged.append(name)
    run("main")
    for thread in list(threads.values()): thread.join()
    for thread in list(threads.values()): thread.join()
    return " ".join(logged)
"""

SEEDS = 700


def possible(steps: Steps) -> set[str]:
    """What may be logged, in all orders."""
    return set(_orders(steps, {"main": 0}, {}, ()))


def _orders(steps: Steps, at: dict[str, int], gates: dict[str, int], logged: tuple[str, ...]) -> Iterator[str]:
    going = [name for name, i in at.items() if i < len(steps[name])]
    if not going:
        yield " ".join(logged)
    for name in going:
        verb, _, of = steps[name][at[name]].partition(" ")
        after, gates_after = {**at, name: at[name] + 1}, gates
        if verb == "start":
            after[of] = 0
        elif verb == "join" and at[of] < len(steps[of]):
            continue
        elif verb == "open":
            gates_after = {**gates, of: gates.get(of, 0) + 1}
        elif verb == "wait":
            if not gates.get(of):
                continue
            gates_after = {**gates, of: gates[of] - 1}
        yield from _orders(steps, after, gates_after, (*logged, name) if verb == "log" else logged)


@pytest.mark.parametrize("steps", PROGRAMS.values(), ids=PROGRAMS)
def test_a_world_draws_all_schedules_that_a_program_allows_and_no_others(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    drawn = set()
    for seed in range(SEEDS):
        with World(str(seed), fresh=[tmp_path], switch=0.3) as world:
            drawn.add(world.run(world.load("program", tmp_path / "program.py").main, steps))
    assert drawn == possible(steps)
    assert len(drawn) > 3
