"""A lab test in virtual time that is watched: its journal, and what the paper's rules say of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labrun.virtual import WAKEUPS
from labsim import World
from labwatch import Journal, Monitor

REPOSITORY = Path(__file__).parents[3]
LAB = [REPOSITORY / package for package in ("labgob", "labrpc", "raft")]
BROKEN = REPOSITORY / "tests/harness/staff/broken"


@dataclass
class Watched:
    journal: Journal
    monitor: Monitor
    failure: BaseException | None  # what the lab says

    @property
    def rules(self) -> set[str]:
        return {broken.rule for broken in self.monitor.broken}


def watched(
    raft: Path, test: str, seed: int, *, limit: int | None = None, trace: list[Any] | None = None, unseen: bool = False
) -> Watched:
    """Run `test` on a solution's file. The journal keeps `limit` events; with `trace`, the world's are added to it. `unseen`: nobody listens."""
    part = test[-2:]
    file = REPOSITORY / f"tests/test_{part.lower()}.py"
    world = World(
        f"{seed}:{test}",
        fresh=[*LAB, file.parent, raft.parent, BROKEN],
        limit=120.0,
        wakeups=WAKEUPS,
        trace=trace is not None,
    )
    journal = Journal(world.now, limit)
    monitor = Monitor(durable=part in ("2C", "2D"), virtual=True)
    journal.listen(monitor.see, monitor.kinds)

    def make_config(*args: Any, **kwargs: Any) -> Any:
        make = world.load("solution", raft).Make
        trial = world.import_module("raft.config").Trial(
            make, f"{seed}:{test}", lambda line: None, None if unseen else journal
        )
        return trial.make_config(*args, **kwargs)

    failure = None
    path = sys.path[:]
    sys.path[:] = [str(REPOSITORY), *path, str(raft.parent), str(BROKEN)]
    try:
        with world:
            world.run(getattr(world.load(file.stem, file), test), make_config)
    except Exception as e:
        failure = e
    finally:
        sys.path[:] = path
        if trace is not None:
            trace += world.trace or []
    assert not journal.failures, journal.failures
    return Watched(journal, monitor, failure)
