"""Scores this repository's Raft by `policy.json`, as the course does, and tells GitHub Classroom. Run by a workflow.

Try it yourself: python .github/classroom/grade.py
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from labrun.record import Record, from_line, repeat_lines
from labrun.report import RECORDS
from labrun.scoring import Scoring

MODES: dict[str, list[str]] = {"real": [], "sim": ["--sim"], "race": ["--race"]}


def main() -> int:
    policy = json.loads(Path(__file__).with_name("policy.json").read_text())
    scoring = Scoring(*(policy[name] for name in ("trials", "confirm", "rule", "warning_cost", "not_run")))
    with tempfile.TemporaryDirectory() as scratch:
        trials = run(Path(scratch, "trials"), policy, MODES[policy["mode"]], scoring.trials)
        worth_it = [test for test in policy["points"] if is_worth_it(trials, test, scoring)]
        isolated: list[Record] = []
        if scoring.confirm and worth_it:
            only = ["-k", " or ".join(worth_it)]
            isolated = run(Path(scratch, "isolated"), policy, ["--isolate", *only], scoring.confirm)
    tests = [result(test, points, trials, isolated, scoring) for test, points in policy["points"].items()]
    for test in tests:
        print(f"{test['name']}: {test['score']:g} of {test['max_score']:g} points\n{test['message']}\n")
    score, most = sum(test["score"] for test in tests), sum(test["max_score"] for test in tests)
    print(f"{score:g} of {most:g} points")
    status = "pass" if score == most else "fail"
    found = json.dumps({"version": 1, "status": status, "max_score": most, "tests": tests})
    if "GITHUB_OUTPUT" in os.environ:
        with open(os.environ["GITHUB_OUTPUT"], "a") as output:
            output.write(f"result={base64.b64encode(found.encode()).decode()}\n")
    return 0


def run(report: Path, policy: dict[str, Any], how: list[str], trials: int) -> list[Record]:
    """Run the lab's tests, and read their records."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-n", "auto", "-m", policy["parts"], *how]
    command += ["--paper"] if policy["paper"] == "fail" and "--isolate" not in how else []
    command += [f"--trials={trials}", f"--seed={policy['seed']}", f"--report={report}"]
    command += [f"--timeout={0 if policy['mode'] != 'real' and '--isolate' not in how else policy['limit']}"]
    subprocess.run(command, stdout=sys.stderr)
    file = report / RECORDS
    return [from_line(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def is_worth_it(trials: list[Record], test: str, scoring: Scoring) -> bool:
    passed = [record.passed for record in trials if record.test == test]
    return any(passed) and (scoring.rule == "share" or all(passed))


def result(test: str, points: float, trials: list[Record], isolated: list[Record], scoring: Scoring) -> dict[str, Any]:
    records, confirmed = ([r for r in some if r.test == test] for some in (trials, isolated))
    score = round(points * scoring.share(records, confirmed), 2)
    said = [f"{sum(r.passed for r in records)} of {scoring.trials} trials passed"]
    if confirmed:
        said[0] += (
            f"; with each server in a process of its own, {sum(r.passed for r in confirmed)} of {scoring.confirm}"
        )
    return {
        "name": test,
        "status": "pass" if score == points else "fail",
        "score": score,
        "max_score": points,
        "message": "\n".join([*said, *repeat_lines(records), *repeat_lines(confirmed)]),
        "test_code": "",
        "filename": "",
        "line_no": 0,
        "duration": round(sum(r.elapsed for r in (*records, *confirmed)), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
