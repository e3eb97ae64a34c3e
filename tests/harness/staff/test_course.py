"""A course from end to end: classes as Moodle and Canvas export them, scores as these import them, pages to look at."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

import browser
from labgrade import batch
from labgrade.__main__ import main
from labgrade.gradebooks import CANVAS, MOODLE
from sandboxed import needs_sandbox
from test_grading_goes_on import BAD, GOOD
from test_labgrade import grades_of

pytestmark = [
    needs_sandbox,
    pytest.mark.timeout(400),
]

MINE = """
import pytest

pytestmark = getattr(pytest.mark, "2A")

def TestMine2A(make_config):
    with make_config(3) as cfg:
        cfg.begin("Test (2A): one leader, soon")
        cfg.checkOneLeader()
        cfg.end()
"""
HOSTILE = "def Make(*a):\n    raise ValueError('<img src=x onerror=alert(1)></script><script>alert(2)</script>')\n"
STUDENTS = [
    f"{first} {last}"
    for first in ("Ada", "Björn", "Chiara", "Đặng")
    for last in ["Abel", "Bos", "Cruz", "D'Arcy", "Eng"]
]
CLASS = [(name, 7000 + k) for k, name in enumerate(STUDENTS * 2)]  # two of each name
LATE = (3, 20)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one test, the course's own."""
    monkeypatch.setattr(batch, "collect", lambda grading: ["TestMine2A"])
    (tmp_path / "test_mine.py").write_text(MINE)
    file = tmp_path / "policy.toml"
    file.write_text(
        '[tool.labgrade]\nmode = "sim"\ntrials = 2\nconfirm = 0\ntests = ["test_mine.py"]\nlate_penalty = 0.25\n'
        'points = {TestMine2A = 20}\nassignment = "Raft (4711)"\n'
    )
    return file


def kind(number: int) -> str:
    """What a student hands in: of ten, three work, two do not, and five cannot be graded."""
    return ("good", "essay", "zip", "empty", "bad", "essay", "good", "empty", "hostile", "essay")[number % 10]


def hand_in(folder: Path, name: str, number: int) -> None:
    match kind(number):
        case "good":
            (folder / f"{name}raft.py").write_text(GOOD)
        case "bad":
            (folder / f"{name}raft.py").write_text(BAD)
        case "hostile":
            (folder / f"{name}raft.py").write_text(HOSTILE)
        case "zip":
            with zipfile.ZipFile(folder / f"{name}raft.zip", "w") as whole:
                whole.writestr("my_raft.py", GOOD)
        case "essay":
            (folder / f"{name}essay.txt").write_text("My Raft is good.")
        case "empty":
            (folder / f"{name}raft.py").write_text("")


def expected(number: int, late: bool) -> float:
    return 20 * (0.75 if late else 1) if kind(number) in ("good", "zip") else 0


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.open(encoding="utf-8-sig", newline="")))


def test_a_class_of_40_as_moodle_exports_it(tmp_path: Path, policy: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number, (student, id) in enumerate(CLASS):
        hand_in(folder, f"{student}_{id}_assignsubmission_file_", number)
    assert main(["grade", *map(str, folder.iterdir()), "--out", str(out), "--policy", str(policy), "--seed", "1"]) == 0
    rows = rows_of(out / "moodle.csv")
    assert tuple(rows[0]) == MOODLE
    assert len(rows) == 40
    by_id = {row["Identifier"]: row for row in rows}
    for number, (student, id) in enumerate(CLASS):
        row = by_id[f"Participant {id}"]
        assert (row["Full name"], float(row["Grade"])) == (student, expected(number, late=False))
        assert row["Last modified (grade)"] == "-"
        assert bool(row["Feedback comments"]) == (kind(number) not in ("good", "zip"))
    assert not (out / "canvas.csv").exists()
    grades = rows_of(out / "grades.csv")
    assert [row["TestMine2A passed"] for row in grades if row["score"] == "20"] == ["2"] * 12
    the_pages_show_everything_as_text(out)
    the_pages_without_names_name_nobody(out)


def test_a_class_of_40_as_canvas_exports_it(tmp_path: Path, policy: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number, (student, id) in enumerate(CLASS):
        late = "_LATE" if number in LATE else ""
        last_first = re.sub(r"\W", "", "".join(reversed(student.split()))).lower()
        hand_in(folder, f"{last_first}{late}_{id}_{90000 + number}_", number)
    assert main(["grade", *map(str, folder.iterdir()), "--out", str(out), "--policy", str(policy), "--seed", "1"]) == 0
    points_possible, *rows = rows_of(out / "canvas.csv")
    assert tuple(points_possible) == (*CANVAS, "Raft (4711)")
    assert (points_possible["Student"].strip(), points_possible["Raft (4711)"]) == ("Points Possible", "20")
    scores = {row["ID"]: float(row["Raft (4711)"]) for row in rows}
    assert scores == {str(id): expected(n, n in LATE) for n, (_, id) in enumerate(CLASS)}
    assert {row["ID"] for row in rows} == {str(id) for _, id in CLASS}
    late = {row["id"] for row in rows_of(out / "grades.csv") if row["late"]}
    assert late == {str(CLASS[number][1]) for number in LATE}


class Page(HTMLParser):
    """What a page holds: tags, and the text outside of them."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def links(self) -> set[str]:
        return {str(attributes.get("href")) for tag, attributes in self.tags if tag == "a"}


def the_pages_show_everything_as_text(out: Path) -> None:
    index = Page(out / "index.html")
    everybody = {grade["name"] for grade in grades_of(out).values()}
    assert len(everybody) == 40
    for link in index.links():
        assert (out / re.sub("%(..)", lambda found: chr(int(found[1], 16)), link)).exists() or "%" in link, link
    pages = [index, *(Page(out / name / "feedback.html") for name in everybody)]
    for page in pages:
        tags = [tag for tag, _ in page.tags]
        assert "img" not in tags
        assert tags.count("script") == (1 if page is index else 0)
        assert not any(name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes)
        (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
        assert policy is not None
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "http" not in policy
    hostile = next(name for name in everybody if "7008" in name)
    told = Page(out / hostile / "feedback.html").words
    assert "ValueError: <img src=x onerror=alert(1)></script><script>alert(2)</script>" in told
    assert "To repeat it: pytest -m 2A -k TestMine2A --raft raft.py --sim --paper --seed 1" in told
    assert "What happened in one of them" in told
    text = (out / hostile / "feedback.txt").read_text()
    assert "0 of 20 points" in text
    assert "repeat with: pytest -m 2A -k TestMine2A" in text
    essay = next(name for name in everybody if "7001" in name)
    assert "hand in raft.py" in Page(out / essay / "feedback.html").words


def the_pages_without_names_name_nobody(out: Path) -> None:
    pages = list((out / "anonymous").glob("*.html"))
    assert len(pages) == 41
    for page in pages:
        text = page.read_text()
        for student, id in CLASS:
            assert student not in text
            assert str(id) not in text
    index = Page(out / "anonymous/index.html")
    assert {f"{page.name}" for page in pages} - {"index.html"} == index.links()


@pytest.mark.skipif(browser.found() is None, reason=browser.MISSING)
def test_a_person_reads_sorts_and_searches_the_pages_in_a_browser(tmp_path: Path, policy: Path) -> None:
    (tmp_path / "ann.py").write_text(GOOD)
    (tmp_path / "bob.py").write_text(HOSTILE)
    (tmp_path / "eve.py").write_text(BAD)
    out = tmp_path / "out"
    how = ["--out", str(out), "--policy", str(policy), "--seed", "1"]
    assert main(["grade", *(f"{tmp_path}/{name}.py" for name in ("ann", "bob", "eve")), *how]) == 0
    names = (
        "[...document.querySelectorAll('#submissions tbody tr:not([hidden]) a:first-child')].map(a => a.textContent)"
    )
    with browser.Browser.start() as chromium:
        page = chromium.open(out / "index.html", says=False)
        assert [name for name in page.value(names) if name != "results.json"] == ["ann", "bob", "eve"]
        assert "To be looked at" not in page.value("document.body.innerText")
        score = "[...document.querySelectorAll('#submissions th button')].find(b => b.textContent == 'score')"
        page.value(f"{score}.click()")
        assert [name for name in page.value(names) if name != "results.json"][-1] == "ann"
        assert page.value(f"{score}.closest('th').getAttribute('aria-sort')") == "ascending"
        page.value(f"{score}.click()")
        assert page.value(names)[0] == "ann"
        page.value("document.querySelector('#search').focus()")
        page.type("onerror")
        assert [name for name in page.value(names) if name != "results.json"] == ["bob"]
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith("file:")] == []
        for name in ("bob/feedback.html", "anonymous/index.html"):
            page = chromium.open(out / name, 700, dark=True, says=False)
            assert "onerror=alert(1)" in page.value("document.body.innerText")
            assert page.value("document.documentElement.scrollWidth <= 700")
            assert page.complaints == []
        page = chromium.open(out / "eve/feedback.html", says=False)
        link = page.value("document.querySelector('.failure a').href")
        drawn = chromium.open(Path(link.removeprefix("file://")))
        assert "TestMine2A" in drawn.value("document.querySelector('#test').textContent")


# -- own tests -------------------------------------------------------------------------------------------------------


def test_a_test_of_the_courses_own_is_graded_in_every_mode(tmp_path: Path, policy: Path) -> None:
    (tmp_path / "ann.py").write_text(GOOD)
    (tmp_path / "bob.py").write_text(BAD)
    everybody = [f"{tmp_path}/ann.py", f"{tmp_path}/bob.py"]
    for mode in ("real", "sim", "race"):
        how = [f"--{mode}"] if mode != "real" else []
        policy.write_text(policy.read_text().replace('mode = "sim"\n', ""))
        out = tmp_path / mode
        how += ["--policy", str(policy), "--trials", "1", "--confirm", "1", "--out", str(out)]
        assert main(["grade", *everybody, *how, "--seed", "1"]) == 0
        assert {name: grade["score"] for name, grade in grades_of(out).items()} == {"ann": 20, "bob": 0}
        (test,) = grades_of(out)["ann"]["tests"]
        assert (test["passed"], test["isolated_passed"]) == (1, 1)


def test_a_test_of_ones_own_without_a_marker_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_mine.py").write_text(MINE.replace("pytestmark", "unused"))
    (tmp_path / "ann.py").write_text(GOOD)
    how = ["--with", f"{tmp_path}/test_mine.py", "--sim", "--out", str(tmp_path / "out")]
    assert main(["grade", f"{tmp_path}/ann.py", *how]) == 2
    assert "test_mine.py has no test of part 2A: it wants functions Test...2A(make_config)" in capsys.readouterr().err


# -- GitHub Classroom ------------------------------------------------------------------------------------------------


def test_classrooms_workflow_scores_the_students_tree_by_the_same_policy(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(MINE)
    file = tmp_path / "policy.toml"
    file.write_text(
        '[tool.labgrade]\nmode = "sim"\ntrials = 2\nconfirm = 1\ntests = ["test_mine.py"]\npoints = {TestMine2A = 20}\n'
    )
    tree = tmp_path / "tree"
    assert main(["classroom", str(tree), "--policy", str(file)]) == 0
    workflow = (tree / ".github/workflows/classroom.yml").read_text()
    assert "run: python .github/classroom/grade.py" in workflow
    assert "classroom-resources/autograding-grading-reporter@v1" in workflow
    assert "TestMine2A | 20 |" in (tree / "README.md").read_text()
    assert not (tree / "labgrade").exists()
    output = tmp_path / "output"
    (tree / "raft/raft.py").write_text(GOOD)
    environment = {**os.environ, "PYTHONPATH": str(tree), "GITHUB_OUTPUT": str(output)}
    script = [sys.executable, ".github/classroom/grade.py"]
    done = subprocess.run(script, cwd=tree, env=environment, capture_output=True, text=True, timeout=200)
    assert (
        "TestMine2A: 20 of 20 points\n2 of 2 trials passed; with each server in a process of its own, 1 of 1"
        in done.stdout
    )
    assert done.stdout.endswith("50 of 50 points\n")
    name, _, value = output.read_text().strip().partition("=")
    told = json.loads(base64.b64decode(value))
    assert (name, told["version"], told["status"], told["max_score"]) == ("result", 1, "pass", 50)
    assert [test["score"] for test in told["tests"]] == [10, 10, 10, 20]
