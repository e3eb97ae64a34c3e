"""In an environment in which other projects are tested, too, the plugin is not noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from labrun.settings import OPTIONS, PARTS

OF_OURS = ("lab:", "--raft", "virtual time", "of the lab", *PARTS)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Somebody else's, with two tests of its own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(test_it="def test_one():\n    pass\n\ndef Test():\n    assert False\n")
    return pytester


def run(project: pytest.Pytester, *args: str) -> pytest.RunResult:
    return project.run(sys.executable, "-m", "pytest", *args, timeout=60)


def assert_unnoticed(result: pytest.RunResult) -> None:
    output = result.stdout.str().replace(str(project_folder(result)), "") + result.stderr.str()
    assert not [word for word in OF_OURS if word in output]


def project_folder(result: pytest.RunResult) -> Path:
    return Path.cwd()


@pytest.mark.parametrize(
    "args",
    [[], ["-q"], ["-v"], ["--strict-markers"], ["-n", "1"], ["-p", "no:cacheprovider", "-c", "other.ini"]],
    ids=lambda args: " ".join(args) or "plain",
)
def test_an_unrelated_project_sees_nothing_of_ours(project: pytest.Pytester, args: list[str]) -> None:
    project.makefile(".ini", other="[pytest]\naddopts = --strict-config")
    result = run(project, *args)
    result.assert_outcomes(passed=1)
    assert_unnoticed(result)
    assert not (project.path / ".pytest_cache/v/lab").exists()


def test_the_markers_are_not_listed(project: pytest.Pytester) -> None:
    result = run(project, "--markers")
    assert result.ret == 0
    assert_unnoticed(result)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_a_conftest_adds_is_the_conftests(project: pytest.Pytester, option: str) -> None:
    name = option.strip("-").replace("-", "_")
    project.makeconftest(f'def pytest_addoption(parser):\n    parser.addoption("{option}", default="theirs")\n')
    project.makepyfile(test_it=f"def test_one(request):\n    assert request.config.option.{name} == 'mine'\n")
    result = run(project, f"{option}=mine")
    result.assert_outcomes(passed=1)
    assert_unnoticed(result)


def test_an_option_that_is_taken_is_named_once_it_is_missed(project: pytest.Pytester) -> None:
    project.makeconftest('def pytest_addoption(parser):\n    parser.addoption("--seed")\n')
    result = run(project, "-m", "2A", "--sim", "--raft", f"{REPOSITORY}/raft/raft.py", "--seed", "7")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["lab: *; not available here, as another plugin or conftest.py has them: --seed"])


def test_a_fixture_of_the_same_name_is_theirs(project: pytest.Pytester) -> None:
    project.makeconftest("import pytest\n\n@pytest.fixture\ndef make_config():\n    return 7\n")
    project.makepyfile(test_it="def test_one(make_config):\n    assert make_config == 7\n")
    result = run(project)
    result.assert_outcomes(passed=1)
    assert_unnoticed(result)


# -- and where it is asked for, it is there -------------------------------------------------------------------------


def test_the_labs_tests_run_from_an_empty_folder(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("my.py").write_text((REPOSITORY / "raft/raft.py").read_text())
    result = run(pytester, "-m", "2A", "--raft", "my.py", "--sim")
    result.assert_outcomes(passed=3, deselected=25)
    assert "Warning" not in result.stdout.str()


def test_an_instructors_own_test_runs_where_it_lies(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="import pytest\n\npytestmark = getattr(pytest.mark, '2B')\n\n"
        "def TestMine2B(make_config):\n    with make_config(3) as cfg:\n        cfg.one(1, 3, retry=True)\n        cfg.end()\n"
    )
    result = run(pytester, "-m", "2B", "--raft", f"{REPOSITORY}/raft/raft.py", "--sim", "--strict-markers")
    result.assert_outcomes(passed=1)
    assert "Warning" not in result.stdout.str()


@pytest.mark.parametrize("folder", ["raft", "tests/harness"])
def test_a_part_can_be_asked_for_in_any_folder_of_the_lab(folder: str) -> None:
    command = [sys.executable, "-m", "pytest", "-m", "2A", "--sim", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=REPOSITORY / folder, capture_output=True, text=True, timeout=60)
    assert "3 passed, 25 deselected" in done.stdout


def test_paths_may_hold_spaces(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("my lab")
    (folder / "my raft.py").write_text((REPOSITORY / "raft/raft.py").read_text())
    result = run(
        pytester, "-m", "2A", "-k", "Initial", "--raft", "my lab/my raft.py", "--sim", "--report", "my lab/out"
    )
    result.assert_outcomes(passed=1, deselected=27)
    assert (folder / "out/results.json").exists()
