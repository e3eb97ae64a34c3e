"""The tools that people use on Python see a world through, and survive its end with threads still alive."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import threading, time

def sleeps():
    time.sleep(100)

def stubborn():
    while True:
        try:
            time.sleep(1)
        except:
            pass

def main():
    for function in sleeps, sleeps, stubborn:
        threading.Thread(target=function).start()
    time.sleep(10)
    return "ran to the end"
"""

TEST = """
from pathlib import Path
from labsim import World

def test_program():
    folder = Path(__file__).parent
    for seed in range(3):
        with World(str(seed), fresh=[folder], spin=0.5) as world:
            print(world.run(world.load("program", folder / "program.py").main))
    print(after())

def after():
    return "seen after the worlds"
"""

SCRIPT = TEST + "\ntest_program()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "test_program.py").write_text(TEST)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -s -p no:cacheprovider\n")
    return tmp_path


def run(folder: Path, *command: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        input=answers,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


PYTEST = ("-m", "pytest", "test_program.py")


def test_cprofile_sees_the_worlds_and_what_comes_after_them(folder: Path) -> None:
    result = run(folder, "-m", "cProfile", "script.py")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("ran to the end") == 3
    assert "program.py:14(main)" in result.stdout
    assert "(after)" in result.stdout


# Without this, coverage takes the frames of all simulated threads for those of one, and loses lines.
COVERAGE = "[run]\nconcurrency = greenlet,thread\n"


@needs("coverage")
def test_coverage_that_knows_nothing_of_greenlets_ends_all_the_same(folder: Path) -> None:
    result = run(folder, "-m", "coverage", "run", "script.py")
    assert (result.returncode, result.stdout.count("ran to the end")) == (0, 3), result.stdout


@needs("coverage")
def test_coverage_counts_the_lines_that_threads_run(folder: Path) -> None:
    (folder / ".coveragerc").write_text(COVERAGE)
    result = run(folder, "-m", "coverage", "run", "script.py")
    assert (result.returncode, result.stdout.count("ran to the end")) == (0, 3), result.stdout
    report = run(folder, "-m", "coverage", "report", "-m", "--include=program.py,script.py").stdout
    assert re.search(r"program\.py +14 +[02] ", report), report  # at most the two lines that only the end reaches
    assert re.search(r"script\.py +11 +0 ", report), report


@needs("pytest_cov")
def test_pytest_cov_reports_on_a_program_in_a_world(folder: Path) -> None:
    (folder / ".coveragerc").write_text(COVERAGE)
    result = run(folder, *PYTEST, "-p", "pytest_cov", "--cov=.", "--cov-report=term")
    assert result.returncode == 0, result.stdout
    assert re.search(r"program\.py +14 +[02] ", result.stdout), result.stdout
    assert re.search(r"test_program\.py +10 +0 ", result.stdout), result.stdout


def test_pytest_under_pdb_runs_to_its_end(folder: Path) -> None:
    result = run(folder, "-m", "pdb", *PYTEST, answers="b program.py:17\nc\np 'sto' + 'pped'\ncl 1\nc\nq\n")
    assert "-> time.sleep(10)\n(Pdb) 'stopped'" in result.stdout
    assert result.stdout.count("ran to the end") == 3, result.stdout
    assert "1 passed" in result.stdout


@needs("debugpy")
def test_debugpy_lets_a_program_in_a_world_run(folder: Path) -> None:
    result = run(folder, "-m", "debugpy", "--listen", "127.0.0.1:0", "script.py")
    assert result.returncode == 0, result.stdout
    assert "seen after the worlds" in result.stdout


BREAKS = """
    import threading, time
    def work():
        breakpoint()
        time.sleep(1)
        print("went on")
    def main():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        time.sleep(10)
        print("went on")
"""


@pytest.mark.parametrize("where", ["main", "work"])
def test_q_at_the_prompt_of_a_breakpoint_quits_the_run(folder: Path, where: str) -> None:
    source = dedent(BREAKS)
    if where == "main":
        source = source.replace("thread.start()", "breakpoint()")
    (folder / "program.py").write_text(source)
    result = run(folder, *PYTEST, answers="q\n")
    assert "Quitting debugger" in result.stdout
    assert "went on" not in result.stdout
    assert "Exception in thread" not in result.stdout
    assert result.returncode == pytest.ExitCode.INTERRUPTED
    plain = run(folder, "script.py", answers="q\n")
    assert "went on" not in plain.stdout
    assert plain.stdout.rstrip().endswith("bdb.BdbQuit")
