"""`--report DIR`: every trial's record, whatever becomes of the run, and the log of each failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Lab
from labrun.report import MOST_LOGS

FAILS_SOMETIMES = """
    def GetState(self):
        if random.random() < 0.002:
            raise ValueError("bad luck")
        return super().GetState()
"""


def results(lab: Lab, folder: str = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lab.pytester.path / folder / "results.json").read_text())
    lines = (lab.pytester.path / folder / "records.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == found["trials"]
    return found


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_every_trial_has_its_record_and_every_failure_its_log(lab: Lab, processes: tuple[str, ...]) -> None:
    lab.variant(FAILS_SOMETIMES, top="import random")
    run = lab.run(
        "-m", "2A", "--sim", "--raft", "raft.py", "--trials", "6", "--seed", "3", "--report", "out", *processes
    )
    found = results(lab)
    assert {key: found[key] for key in ("schema", "solution", "seed", "trials_asked", "mode", "race")} == {
        "schema": 2,
        "solution": "raft.py",
        "seed": 3,
        "trials_asked": 6,
        "mode": "virtual",
        "race": False,
    }
    assert found["versions"].keys() == {"python", "platform", "pytest", "raft-lab"}
    assert len({trial["nodeid"] for trial in found["trials"]}) == len(found["trials"]) == 18
    outcomes = run.parseoutcomes()
    for outcome in ("passed", "failed"):
        assert outcomes[outcome] == sum(trial["outcome"] == outcome for trial in found["trials"]) > 0
    for trial in found["trials"]:
        assert trial["seed"] == 3 + trial["trial"]
        assert trial["mode"] == "virtual"
        assert (trial["cause"] == "") == (trial["outcome"] == "passed")
        assert trial["repeat"].endswith(f"--sim --seed {trial['seed']}")
        if trial["outcome"] == "passed":
            assert trial["rpcs"] > 0 < trial["bytes"]
            assert 2 < trial["seconds"] < 12
            assert trial["log"] is None
        else:
            log = (lab.pytester.path / "out" / trial["log"]).read_text()
            assert log.startswith(f"{trial['test']}, seed {trial['seed']}: {trial['message']}\n")
            assert "begin Test (2A):" in log
            assert "checkOneLeader" in log
            assert trial["repeat"] in log


def test_a_run_that_is_killed_keeps_what_had_ended(lab: Lab) -> None:
    lab.variant(
        """
    def boot(self):
        if random.random() < 0.03:
            os.kill(os.getpid(), 9)
        super().boot()
""",
        top="import random",
    )
    run = lab.run("-m", "2A", "--sim", "--raft", "raft.py", "--trials", "40", "--seed", "1", "--report", "out")
    assert run.ret == -9
    trials = results(lab)["trials"]
    assert 0 < len(trials) < 120
    assert all(trial["outcome"] == "passed" for trial in trials)


def test_a_worker_that_is_killed_has_failed_its_trial(lab: Lab) -> None:
    lab.variant("    def boot(self):\n        os.abort()\n")
    command = ["-m", "2A", "--sim", "--raft", "raft.py", "--trials", "2", "--seed", "1", "-k", "Initial", "-n", "1"]
    run = lab.run(*command, "--report", "out")
    run.assert_outcomes(failed=2)
    assert [(t["outcome"], t["message"]) for t in results(lab)["trials"]] == [
        ("failed", "the process ended while the test ran")
    ] * 2
    run.stdout.re_match_lines(
        [
            r"TestInitialElection2A +2 +2 ",
            r"TestInitialElection2A: the process ended while the test ran",
            r"    2 of 2 trials; seeds 1, 2",
            r"    repeat with: pytest -m 2A -k TestInitialElection2A --raft raft.py --sim --seed 1",
        ]
    )


def test_logs_are_bounded_in_size_and_number(lab: Lab) -> None:
    lab.variant(
        """
    def boot(self):
        print("flood " * 1_000_000)

    def Kill(self):
        pass
"""
    )
    trials = MOST_LOGS + 3
    lab.run("-m", "2A", "--sim", "--raft", "raft.py", "--trials", trials, "-k", "Initial", "--report", "out")
    logs = list((lab.pytester.path / "out/logs").glob("*.log"))
    assert len(logs) == MOST_LOGS
    assert all(log.stat().st_size < 250_000 for log in logs)
    assert "characters left out" in logs[0].read_text()
    assert [trial["log"] for trial in results(lab)["trials"]].count(None) == 3


def test_results_are_never_overwritten(lab: Lab, tmp_path: Path) -> None:
    lab.pytester.mkdir("out")
    (lab.pytester.path / "out/results.json").write_text("{}")
    run = lab.run_quick("--report", "out")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["ERROR: --report *out: it has the results of an earlier run; give another folder*"])


def test_a_solution_that_does_not_load_is_recorded(lab: Lab) -> None:
    lab.solution("def Make(:")
    lab.run("-m", "2A", "--raft", "raft.py", "-k", "Initial", "--report", "out")
    (trial,) = results(lab)["trials"]
    assert (trial["outcome"], trial["cause"]) == ("failed", "import")
    assert "cannot load the solution raft.py: SyntaxError" in trial["message"]
    assert trial["seconds"] is None
