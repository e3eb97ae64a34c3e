"""Running the lab: which solution, which seeds, how often, what is reported. The plugin is labgrade.plugin.

`python -m labgrade` grades a class (labgrade.batch), proves the harness (labgrade.gallery) and makes the students' tree
(labgrade.handout).

The lab's own packages are those beside this one. A `raft.py` in the folder where somebody runs Python is a solution,
and must not be taken for the package `raft`.
"""

import sys
from pathlib import Path

HOME = Path(__file__).parents[1]

sys.path.insert(0, str(HOME))
try:
    import labgob
    import labrpc
    import raft
finally:
    sys.path.remove(str(HOME))

LAB = [Path(str(package.__file__)).parent for package in (labgob, labrpc, raft)]
"""The folders of what runs inside a lab test."""

__all__ = ["HOME", "LAB"]
