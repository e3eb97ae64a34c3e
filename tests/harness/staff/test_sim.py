"""--sim and --sim-check: the lab's own tests in virtual time, as students and graders run them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY, Lab

STYLES = sorted(Path(__file__).parent.glob("styles/*.py"))
TWO_LEADERS = """
    def RequestVote(self, args, reply):
        with self.mu:
            self.followNewerTerm(args.Term)
            reply.Term = self.currentTerm
            reply.VoteGranted = args.Term == self.currentTerm  # whoever asks, however often

    def AppendEntries(self, args, reply):
        if not self.GetState()[1]:  # and a leader listens to no other
            super().AppendEntries(args, reply)
"""


def sim(lab: Lab, *args: object) -> pytest.RunResult:
    return lab.run("-m", "2A", "--sim", "-p", "no:cacheprovider", *args)


def test_many_trials_take_no_time_and_all_pass(lab: Lab) -> None:
    result = sim(lab, "--trials", "20", "--seed", "1")
    result.assert_outcomes(passed=60)
    result.stdout.re_match_lines(
        [
            r"lab: --raft raft/raft.py --seed 1, 20 trials, virtual time",
            r"TestInitialElection2A +0 +20 +3\.\d ± 0\.\d +\d+ ± .*",
            r"TestReElection2A +0 +20 +[45]\.\d ± 0\.\d +\d+ ± .*",
            r"TestManyElections2A +0 +20 +[56]\.\d ± 0\.\d +\d+ ± .*",
        ]
    )
    assert float(result.stdout.str().rsplit("in ", 1)[1].split("s")[0]) < 60


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.stem)
def test_every_style_of_threaded_raft_runs_unmodified(lab: Lab, style: Path) -> None:
    """All of lab 2, but for what costs most: test_paper and test_race have that."""
    tests = "not Churn and not Figure8Unreliable"
    result = lab.run("-m", "2A or 2B or 2C or 2D", "-k", tests, "--sim", "--raft", style)
    result.assert_outcomes(passed=25)


def test_a_failing_seed_fails_alike_in_every_process(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same message, virtual time, RPC and byte counts, whatever the strings hash to."""
    lab.variant(TWO_LEADERS, top="base.ELECTION_TIMEOUT = (0.4, 0.41)")  # and everybody stands for election at once
    seen = set()
    found = sim(lab, "--raft", "raft.py", "--trials", "40", "--seed", "1", "-k", "TestManyElections2A")
    failing = re.search(r"repeat with: .* --seed (\d+)", found.stdout.str())
    assert failing
    for hash_seed in range(10):
        monkeypatch.setenv("PYTHONHASHSEED", str(hash_seed))
        result = sim(lab, "--raft", "raft.py", "--seed", failing[1], "-k", "TestManyElections2A")
        result.assert_outcomes(failed=1)
        output = result.stdout.str()
        story = output.split("the test so far -")[1].split("---- repeat with")[0]
        seen.add((re.search(r"LabFailure: .*", output)[0], story))  # type: ignore[index]
    assert len(seen) == 1


def test_the_command_that_repeats_a_failure_says_sim(lab: Lab) -> None:
    result = sim(lab, "--raft", "raft.skeleton", "--seed", "5", "-k", "TestReElection2A")
    result.stdout.fnmatch_lines(
        [
            "> *leader1 = cfg.checkOneLeader()",
            "E *LabFailure: expected one leader, got none: *",
            "*tests/test_2a.py:*: LabFailure",
            "*server * ticker: in Raft.ticker, *raft/skeleton.py:*",
            "pytest -m 2A -k TestReElection2A --raft raft.skeleton --sim --seed 5",
        ]
    )


def test_sim_check_passes_a_deterministic_solution(lab: Lab) -> None:
    result = lab.run("-m", "2A", "--sim-check", "-k", "TestInitialElection2A")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["lab: *, virtual time"])


@pytest.mark.parametrize("chance", ["hash('ticker') % 1000", "os.urandom(1)[0]"], ids=["hash", "urandom"])
def test_sim_check_reports_the_first_event_that_differs(lab: Lab, chance: str) -> None:
    lab.variant(f"    def ticker(self):\n        time.sleep({chance} / 100_000)\n        super().ticker()\n")
    result = lab.run("-m", "2A", "--sim-check", "-k", "TestInitialElection2A", "--raft", "raft.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *LabFailure: the solution is not deterministic: two runs with the same seed differ from event *",
            "*first run:",
            "*server * ticker: sleep 0.0*",
            "*second run:",
            "*server * ticker: sleep 0.0*",
            "*Likely causes*",
        ]
    )


VERDICTS = {
    "deadlock": (
        "    def GetState(self):\n        with self.mu:\n            with self.mu:\n                return 0, False\n",
        ["*LabFailure: GetState has not returned for 10 s: *", "*MainThread waits in Lock.acquire of mu of server 0; it is held by the thread itself (*raft.py:* in Raft.GetState), and would have to be an RLock*", "*raft.py:* in Raft.GetState"],
    ),
    "spin": ("    def ticker(self):\n        while True: pass\n", ["*Spin: server * ticker has run for 3 s of real time at */raft.py:* in Raft.ticker"]),
    "asyncio": ("    def GetState(self):\n        import asyncio\n", ["*Unsupported: import asyncio at */raft.py:* in *GetState", "*can run without virtual time*"]),
    "crash": ("    def ticker(self):\n        time.sleep(1)\n        1 / 0\n", ["*ZeroDivisionError*", "*LabFailure: thread 'server * ticker' died: ZeroDivisionError: *raft.py:*"]),
    "sys.exit": ("    def ticker(self):\n        sys.exit(0)\n", ["*called sys.exit(0), which ends the whole program*"]),
    "os._exit": ("    def ticker(self):\n        os._exit(0)\n", ["*the solution called os._exit(0), which would end the whole run*"]),
    "poll": ("    def GetState(self):\n        while not self.killed(): pass\n", ["*LabFailure: GetState has not returned for 10 s: *", "*MainThread is in *", "*raft.py:* in Raft.GetState"]),
}  # fmt: skip


@pytest.mark.parametrize(("body", "lines"), VERDICTS.values(), ids=VERDICTS)
def test_what_cannot_go_on_ends_clearly_within_seconds(lab: Lab, body: str, lines: list[str]) -> None:
    lab.variant(body)
    result = sim(lab, "--raft", "raft.py", "-k", "TestInitialElection2A")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(lines)
    assert result.duration < 30


def test_a_leak_is_reported_in_virtual_time_too(lab: Lab) -> None:
    lab.variant(
        "    def Kill(self):\n        super().Kill()\n        threading.Thread(target=self.leak, name='leaky').start()\n"
        "    def leak(self):\n        while True: time.sleep(0.5)\n"
    )
    result = sim(lab, "--raft", "raft.py", "-k", "TestInitialElection2A")
    result.assert_outcomes(passed=1, warnings=1)  # the same for all three servers
    result.stdout.fnmatch_lines(
        ["*LeakWarning: thread 'leaky' (and 2 others) still runs after Kill, in Raft.leak, */raft.py:*"]
    )


def test_a_timeout_that_comes_in_an_rpc_handler_is_reported_as_such(lab: Lab) -> None:
    lab.variant(
        "    def RequestVote(self, args, reply):\n        for _ in range(10**6):\n            sum(range(100_000))\n"
        "            with self.mu: pass\n"
    )
    result = sim(lab, "--raft", "raft.py", "-k", "TestInitialElection2A", "--timeout", "2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["--- FAIL: TestInitialElection2A*", "    Timeout (>2.0s) from pytest-timeout."])


def test_timeout_interrupts_virtual_time(lab: Lab) -> None:
    lab.variant("    def GetState(self):\n        while True: pass\n")
    result = sim(lab, "--raft", "raft.py", "-k", "TestInitialElection2A or TestReElection2A", "--timeout", "1")
    result.assert_outcomes(failed=2)


@pytest.mark.parametrize("what", ["package", "module"])
def test_a_solution_in_several_files(lab: Lab, what: str) -> None:
    shipped = (REPOSITORY / "raft/raft.py").read_text()
    lab.solution("from .core import Make\n", "team/__init__.py")
    lab.solution(shipped.replace("import labgob\n", "import labgob\nfrom .settings import NAME\n"), "team/core.py")
    lab.solution("NAME = 'team'\n", "team/settings.py")
    where = {"package": "team", "module": "team.core"}[what]
    sim(lab, "--raft", where, "--trials", "2").assert_outcomes(passed=6)


def test_a_path_outside_the_project_is_taken_as_it_is_meant(lab: Lab, tmp_path: Path) -> None:
    """pytest by itself would take the folder of a path after an unknown option for the project's."""
    path = lab.variant("    pass\n")
    result = lab.pytester.run(
        sys.executable, "-m", "pytest", "-m", "2A", "--sim", "--raft", str(path), str(REPOSITORY / "tests")
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"rootdir: {REPOSITORY}"])
