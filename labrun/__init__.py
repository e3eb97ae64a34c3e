"""Running the lab's tests: the pytest plugin, three ways to run a trial, its record, reports and the terminal.

The way of a run: `plugin` (hooks only) asks `settings` what the command line wants, and runs each lab test once for
each trial by `real` or `virtual`; a `record` is made where the exception is in hand; `terminal` and `report` show it.

The lab's own packages are those beside this one. A `raft.py` in the folder where somebody runs Python is a solution,
and must not be taken for the package `raft`.
"""

import os
import sys
from pathlib import Path

HOME = Path(os.path.abspath(__file__)).parents[1]  # without `..`, which a sandbox may not have

sys.path.insert(0, str(HOME))
try:
    import labgob
    import labrpc
    import raft
finally:
    sys.path.remove(str(HOME))

LAB = [Path(os.path.abspath(str(package.__file__))).parent for package in (labgob, labrpc, raft)]
"""The folders of what runs inside a lab test."""

HARNESS = ("labgob", "labrpc", "raft.api", "raft.config", "raft.persister", "raft.threads")
"""The modules that judge a solution, and that it must not change."""

TESTS = HOME / "tests" if (HOME / "tests" / "test_2a.py").exists() else HOME / "labrun" / "lab"
"""The folder of the lab's tests: in the repository `tests`; in a wheel they are installed as labrun.lab."""

__all__ = ["HARNESS", "HOME", "LAB", "TESTS"]
