"""--raft, --trials and --seed, what is printed, and the same with xdist."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from conftest import REPOSITORY, Lab
from labrun import record


def seed_of(result: pytest.RunResult) -> str:
    found = re.search(r"^lab: --raft \S+ --seed (\d+)", result.stdout.str(), re.MULTILINE)
    assert found
    return found[1]


FAILS_WITH_SEED = """
import pytest
pytestmark = getattr(pytest.mark, "2A")

def TestDraws2A(make_config):
    with make_config(1) as cfg:
        cfg.fail(f"drew {cfg.rng.random()} and {__import__('random').random()}")
"""

FAILS_AT_TIMES = """
import pytest
pytestmark = getattr(pytest.mark, "2A")

def TestFails2A(make_config):
    with make_config(1) as cfg:
        cfg.begin("Test (2A): sometimes")
        k = int(cfg._trial.seed.split(":")[0])
        if k % 3 == 0:
            cfg.fail(f"{k} divides by three", "facts")
        cfg.end()

def TestPasses2A(make_config):
    with make_config(1) as cfg:
        cfg.begin("Test (2A): always")
        cfg.end()
"""


# --- what is printed ---


@pytest.mark.parametrize("args", [[], ["-n", "2"], ["-q"], ["-s"]], ids=["plain", "xdist", "quiet", "uncaptured"])
def test_a_single_run_shows_the_labs_own_lines(lab: Lab, args: list[str]) -> None:
    result = lab.run_quick(*args)
    result.assert_outcomes(passed=2)
    for banner, n in (("quick", 3), ("other", 5)):
        result.stdout.re_match_lines(
            [rf"^Test \(2A\): {banner} \.\.\.$", rf"^  \.\.\. Passed --   0\.\d  {n}    \d       \d    0$"]
        )


def test_verbose_output_keeps_pytests_own_words(lab: Lab) -> None:
    lab.run_quick("-v").stdout.fnmatch_lines(["*test_quick.py::TestQuick2A*", "*PASSED*"])


@pytest.mark.parametrize("args", [[], ["-n", "2"]], ids=["here", "xdist"])
def test_trials_give_a_table_and_each_kind_of_failure_once(lab: Lab, args: list[str]) -> None:
    result = lab.run_quick("--trials", "6", "--seed", "100", *args, source=FAILS_AT_TIMES)
    result.assert_outcomes(passed=10, failed=2)
    result.stdout.re_match_lines(
        [
            r"=+ lab: 6 trials, seeds 100 to 105 =+",
            r"test +failed +total +time \(s\) +RPCs +bytes",
            r"TestFails2A +2 +6 +0\.0 ± 0\.0 +\d+ ± \d+ +\d+ ± \d+",
            r"TestPasses2A +0 +6 +0\.0 ± 0\.0 +\d+ ± \d+ +\d+ ± \d+",
            r"TestFails2A: 102 divides by three",
            r"    2 of 6 trials; seeds 102, 105",
            r"    repeat with: pytest -m 2A -k TestFails2A --seed 102",
        ],
    )
    output = result.stdout.str()
    assert output.count("LabFailure: 10") == 1 + output.count("FAILED test_quick")  # one in full, and its summary line
    assert "Passed --" not in output


def test_every_failure_names_the_command_that_repeats_it_under_q_too(lab: Lab) -> None:
    result = lab.run_quick("-q", source=FAILS_WITH_SEED)
    result.stdout.re_match_lines([r"pytest -m 2A -k TestDraws2A --seed \d+$"])


# --- --seed ---


def test_a_seed_repeats_the_draws_of_the_harness_and_of_the_solution(lab: Lab) -> None:
    def drawn(*args: str) -> str:
        found = re.search(r"drew \S+ and \S+", lab.run_quick(*args, source=FAILS_WITH_SEED).stdout.str())
        assert found
        return found[0]

    assert drawn("--seed", "7") == drawn("--seed", "7", "-n", "1")
    assert drawn("--seed", "7") != drawn("--seed", "8")


def test_seed_last_repeats_the_previous_runs(lab: Lab) -> None:
    refused = lab.run_quick("--seed", "last")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*--seed last: no earlier run has left its seed here"])
    first, second = lab.run_quick(), lab.run_quick("--seed", "last")
    assert seed_of(first) == seed_of(second)
    assert seed_of(lab.run_quick()) != seed_of(first)


def test_seed_failed_repeats_the_trials_that_failed(lab: Lab) -> None:
    run = lab.run_quick("--trials", "7", "--seed", "5", source=FAILS_AT_TIMES)
    run.assert_outcomes(passed=12, failed=2)  # 6 and 9 divide by three
    again = lab.run_quick("--seed", "failed", source=FAILS_AT_TIMES)
    again.assert_outcomes(failed=2)
    again.stdout.fnmatch_lines(["*2 of 2 trials; seeds 6, 9"])
    (lab.pytester.path / ".pytest_cache/v/lab/failed").write_text("{}")
    lab.run_quick("--seed", "failed").stderr.fnmatch_lines(["*--seed failed: no trial failed in the previous run"])


def test_the_global_random_state_of_others_is_left_alone(lab: Lab) -> None:
    source = (
        "import random\nstate = random.getstate()\n"
        + FAILS_AT_TIMES
        + "\ndef test_state():\n    assert random.getstate() == state\n"
    )
    lab.run_quick("-k", "test_state or TestPasses", source=source).assert_outcomes(passed=2, deselected=1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seed", "x"], "--seed takes a whole number, 'last' or 'failed', not 'x'"),
        (["--seed", "-1"], "--seed takes a whole number, 'last' or 'failed', not '-1'"),
        (["--trials", "0"], "--trials takes a whole number of at least 1, not '0'"),
        (["--trials", "many"], "--trials takes a whole number of at least 1, not 'many'"),
        (
            ["--raft", "no.such.module"],
            "--raft no.such.module: there is no module no.such.module, and no file or folder",
        ),
        (["--race-share", "0.5"], "--race-share says how --race looks, and has no effect without it: add --race"),
        (
            ["--picture", "--trials", "2"],
            "--picture opens the picture of a single run: with --trials give --report DIR",
        ),
        (["--schedule", "pct"], "--schedule is for virtual time, and has no effect on real threads"),
        (["--hunt=soon"], "--hunt takes seconds (60) or a number of stories (500x), not 'soon'"),
        (["--hunt=0x"], "--hunt takes seconds (60) or a number of stories (500x), not '0x'"),
        (["--hunt", "--isolate"], "--hunt runs stories in virtual time, and --isolate is real time: give one of them"),
        (["--hunt", "9", "--trials", "3"], "--hunt draws its own stories, and --trials has no effect on them"),
        (["--hunt", "9", "--sim-check"], "--hunt draws its own stories, and --sim-check has no effect on them"),
        (["--hunt", "--seed", "failed"], "--hunt tries what failed the last time first, in any case"),
        (["--isolate", "--sim"], "--isolate runs in real time: give it without --sim, --sim-check and --race"),
        (["--raft", "folder"], "--raft folder: the folder */folder holds neither __init__.py nor raft.py"),
        (["--raft", "notes.txt"], "--raft notes.txt: */notes.txt is not a Python file"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_accepted(lab: Lab, args: list[str], message: str) -> None:
    (lab.pytester.path / "folder").mkdir()
    (lab.pytester.path / "notes.txt").touch()
    result = lab.run_quick(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


@pytest.mark.parametrize("words", [["--hunt", "tests", "-m", "2A"], ["-m", "2A", "--hunt"]], ids=" ".join)
def test_the_word_after_hunt_is_its_amount_only_if_it_looks_like_one(lab: Lab, words: list[str]) -> None:
    lab.pytester.mkdir("tests")
    result = lab.run_quick(*words, "--collect-only", "-q")
    result.stdout.re_match_lines([r".*items\.py::TestHunt2A"])


def test_a_wrong_value_in_the_ini_file_is_refused_too(lab: Lab) -> None:
    result = lab.run_quick(ini="trials = none")
    assert result.ret == pytest.ExitCode.INTERRUPTED  # it is read once a lab test has been found
    result.stdout.fnmatch_lines(["*trials takes a whole number of at least 1, not 'none'*"])


def test_ini_settings_serve_where_the_command_line_is_silent(lab: Lab) -> None:
    assert "--trials" not in lab.run_quick(ini="trials = 2").stdout.str()
    lab.run_quick(ini="trials = 2").assert_outcomes(passed=4)
    lab.run_quick("--trials", "3", ini="trials = 2").assert_outcomes(passed=6)


def test_the_command_that_repeats_a_trial_names_all_that_mattered(lab: Lab) -> None:
    def repeat(*args: str, ini: str = "") -> str:
        output = lab.run_quick("--seed", "5", *args, source=FAILS_WITH_SEED, ini=ini).stdout.str()
        return re.findall(r"^pytest -m .*", output, re.MULTILINE)[0]

    assert repeat() == "pytest -m 2A -k TestDraws2A --seed 5"
    assert repeat("--sim-check") == "pytest -m 2A -k TestDraws2A --sim-check --seed 5"
    assert repeat("--sim", "--schedule", "pct") == "pytest -m 2A -k TestDraws2A --sim --schedule pct --seed 5"
    assert repeat(ini="trials = 2") == "pytest -m 2A -k TestDraws2A --trials 1 --seed 5"
    assert repeat("--isolate") == "pytest -m 2A -k TestDraws2A --isolate --seed 5"


# --- --raft ---

STATE = """
class {name}:
    def GetState(self): return {term}, False
    def Start(self, command): return -1, {term}, False
    def Kill(self): pass
"""
TERM_TEST = """
import pytest
pytestmark = getattr(pytest.mark, "2A")

def TestTerm2A(make_config):
    with make_config(1) as cfg:
        cfg.fail(f"the term is {cfg.checkTerms()}")

def TestTermAgain2A(make_config):
    with make_config(1) as cfg:
        cfg.fail(f"the term is {cfg.checkTerms()}")
"""


def terms(lab: Lab, what: str) -> list[str]:
    output = lab.run_quick("--raft", what, source=TERM_TEST).stdout.str()
    return re.findall(r"^    the term is (\d+)", output, re.MULTILINE)


def test_a_solution_may_be_a_file_or_a_folder_or_a_package_or_a_module(lab: Lab) -> None:
    make = "def Make(*args): return R()\n"
    lab.solution(STATE.format(name="R", term=11) + make, "anything.py")
    lab.solution("from helper import R\n" + make, "folder/raft.py")
    lab.solution(STATE.format(name="R", term=12), "folder/helper.py")
    lab.solution("from .inner.core import R\n" + make, "raft/__init__.py")
    lab.solution("", "raft/inner/__init__.py")
    lab.solution("from ..state import R\n", "raft/inner/core.py")
    lab.solution(STATE.format(name="R", term=13), "raft/state.py")
    lab.solution("", "pkg/__init__.py")
    lab.solution("from . import other\nR = other.R\n" + make, "pkg/mine.py")
    lab.solution(STATE.format(name="R", term=14), "pkg/other.py")
    (lab.pytester.path / "elsewhere").mkdir()
    (lab.pytester.path / "raft").rename(lab.pytester.path / "elsewhere/raft")  # a package called raft, as the harness's

    assert terms(lab, "anything.py") == ["11", "11"]
    assert terms(lab, "folder") == ["12", "12"]
    assert terms(lab, "elsewhere/raft") == ["13", "13"]
    assert terms(lab, "pkg.mine") == ["14", "14"]
    assert not list(lab.pytester.path.rglob("pkg/__pycache__"))


def test_module_globals_do_not_leak_from_one_test_to_the_next(lab: Lab) -> None:
    lab.solution("count = 0\n", "folder/counter.py")
    lab.solution(
        "import counter\nfrom dataclasses import dataclass\nimport labgob\n"
        "@dataclass\nclass Op:\n    X: 'int' = 0\n"
        "def Make(*args):\n    counter.count += 1\n    labgob.Register(Op)\n    return R()\n"
        + STATE.format(name="R", term="counter.count"),
        "folder/raft.py",
    )
    assert terms(lab, "folder") == ["1", "1"]


# --- the summary by itself ---


def test_failures_are_grouped_by_message_whatever_the_numbers() -> None:
    def made(seed: int, message: str) -> record.Record:
        return record.Record(
            nodeid=f"test_x.py::TestX2A[trial{seed}]",
            test="TestX2A",
            trial=seed,
            seed=seed,
            mode="real",
            outcome="failed" if message else "passed",
            cause="lab" if message else "",
            message=message,
            seconds=None if message else float(seed),
            servers=3,
            rpcs=10 * seed,
            bytes=0,
            commands=0,
            repeat=f"repeat {seed}",
        )

    records = [
        made(1, ""),
        made(2, "term 7 has 2 (>1) leaders"),
        made(3, "other"),
        made(4, "term 9 has 3 (>1) leaders"),
        made(5, ""),
    ]
    assert record.repeat_lines(records) == [
        "TestX2A: term 7 has 2 (>1) leaders",
        "    2 of 5 trials; seeds 2, 4",
        "    repeat with: repeat 2",
        "TestX2A: other",
        "    1 of 5 trials; seeds 3",
        "    repeat with: repeat 3",
    ]
    assert record.trials_table(records) == [
        "test     failed  total   time (s)     RPCs  bytes",
        "TestX2A       3      5  3.0 ± 2.0  30 ± 14  0 ± 0",
    ]
    assert [record.from_line(record.to_line(r)) for r in records] == records


@pytest.mark.parametrize("how", ["--sim", "--trials=1"], ids=["virtual", "real"])
def test_q_at_a_breakpoint_in_an_rpc_handler_quits_the_run(lab: Lab, how: str) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    minimal = readme[readme.index("import threading\n") :].partition("```")[0]
    (lab.pytester.path / "raft.py").write_text(
        minimal.replace("reply.Term = self", "breakpoint()\n            reply.Term = self")
    )
    (lab.pytester.path / "quit").write_text("q\n")
    with open(lab.pytester.path / "quit") as answers:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-s",
            how,
            "-m2A",
            "--raft=raft.py",
            f"{REPOSITORY}/tests/test_2a.py",
        ]
        result = subprocess.run(
            command, stdin=answers, capture_output=True, text=True, cwd=lab.pytester.path, timeout=60
        )
    assert "Quitting debugger" in result.stdout
    assert result.returncode == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize("how", ["--sim", "--trials=1", "--isolate"], ids=["virtual", "real", "isolated"])
def test_nothing_is_written_next_to_the_solution(lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (lab.pytester.path / "mine").mkdir()
    (lab.pytester.path / "mine/raft.py").write_text("from helper import Make\n")
    (lab.pytester.path / "mine/helper.py").write_text("from raft.raft import Make\n")
    lab.run_quick(how, "-k", "Other", "--raft=mine").assert_outcomes(passed=1)
    assert sorted(path.name for path in (lab.pytester.path / "mine").iterdir()) == ["helper.py", "raft.py"]
