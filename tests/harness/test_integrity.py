"""A solution is judged by the harness as it was, not as the solution would like it to be."""

from __future__ import annotations

import pytest

from conftest import Lab

DO_NOTHING = """
def Make(peers, me, persister, applyCh):
    return Raft()

class Raft:
    def GetState(self):
        return 1, False

    def Start(self, command):
        return -1, 1, False

    def Kill(self):
        pass
"""

CHANGES = {
    "a method": (
        "import raft.config\nraft.config.Config.checkOneLeader = lambda self: 0\n",
        "raft.config.Config.checkOneLeader",
    ),
    "a method's code": (
        "import raft.config\nraft.config.Config.checkOneLeader.__code__ = (lambda self: 0).__code__\n",
        "raft.config.Config.checkOneLeader",
    ),
    "through the garbage collector": (
        "import gc\nfor o in gc.get_objects():\n    if getattr(o, '__qualname__', '') == 'Config' and isinstance(o, type):\n"
        "        o.checkOneLeader = lambda self: 0\n",
        "raft.config.Config.checkOneLeader",
    ),
    "a constant of the lab's": (
        "import raft.config\nraft.config.RaftElectionTimeout = 0.01\nraft.config.SnapShotInterval = 10**6\n"
        "raft.config.Config.checkOneLeader = lambda self: 0\n",
        "raft.config.RaftElectionTimeout, raft.config.SnapShotInterval, raft.config.Config.checkOneLeader",
    ),
    "a constant": (
        "import labrpc, raft.config\nlabrpc.DROP_PER_MILLE = 0\nraft.config.Config.checkOneLeader = lambda self: 0\n",
        "labrpc.DROP_PER_MILLE, raft.config.Config.checkOneLeader",
    ),
}


@pytest.mark.parametrize("how", [("--sim",), ()], ids=["virtual", "real"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_solution_that_changes_the_harness_fails(lab: Lab, change: str, how: tuple[str, ...]) -> None:
    source, name = CHANGES[change]
    lab.solution(source + DO_NOTHING)
    result = lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", *how)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*LabFailure: the solution changed {name}*"])


def test_the_next_trial_has_the_harness_as_it_was(lab: Lab) -> None:
    """With real threads all trials of a process share one harness."""
    lab.solution(CHANGES["a method"][0].replace("raft.config.C", "if True: raft.config.C") + DO_NOTHING)
    lab.solution(
        "from raft.config import Config\nassert Config.checkOneLeader.__name__ == 'checkOneLeader'\n", "look.py"
    )
    result = lab.run("-m", "2A", "-k", "Initial", "--raft", "raft.py", "--trials", "2")
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("2 of 2 trials") == 1
