"""Pages to look at: a submission's feedback, and the class.

Each is one file that asks for nothing else: styles and the little script stand in it, and its Content-Security-Policy
allows these two, by their hashes, and nothing more. What comes from a submission is text: it is escaped here, once, by
`text`. The class's page is readable without its script, which sorts and searches.

`NAME/feedback.html` is for the student: points, what failed and how often, the message, likely causes, how to repeat
it, the log of one such trial with its story, and a link to its picture. `index.html` is for staff: suspicious passes
first, then how scores are distributed, how each test went, which kinds of failure there are and who has them, and
everybody, with links. `anonymous/` has both without names: who they are is a number, drawn by the digests of the
submissions; what names them in messages and commands is replaced, and there are no causes, logs and pictures.

A class is added a submission at a time, and its rows wait in a file, so that memory does not grow with them.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import html
import re
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from labgrade.batch import Batch, written
from labgrade.gradebooks import Sink
from labgrade.grades import SHARED, Failure, Grade, TestGrade
from labgrade.intake import Submission
from labgrade.policy import Grading
from labrun.record import shown_seeds
from labrun.report import cut

__all__ = ["Veil", "everybody", "feedback"]

LOG = 30_000  # characters of a log that a page has
SHOWN = 12  # names that a kind of failure lists before the rest is folded
BINS = 10  # of the distribution of scores
MODES = {"real": "real threads", "sim": "virtual time", "race": "virtual time with the race detector"}
GENERAL = {"raft", "myraft", "solution", "submission", "main", "lab"}  # names of files that name nobody


def text(value: object) -> str:
    """As HTML. Whatever it is, it is shown and not obeyed."""
    return html.escape(str(value).encode(errors="replace").decode(), quote=True)


@functools.cache
def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@functools.cache
def _hashed(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_file(name).encode()).digest()).decode()}"


def _page(template: str, **parts: str) -> str:
    """The template's {{name}} replaced by HTML that is ready."""
    known = {"style": _file("style.css"), "style_hash": _hashed("style.css")}
    known |= {"script": _file("index.js"), "script_hash": _hashed("index.js")} | parts
    return re.sub(r"{{(\w+)}}", lambda found: known[found[1]], _file(template))


# -- a submission ------------------------------------------------------------------------------------------------------


def feedback(g: Grade, grading: Grading, folder: Path | None) -> str:
    """The page of a submission. `folder` is that of its logs; None for a page without them."""
    about = [f"graded: {g.solution}" if g.solution else "", *g.notes]
    if g.lab:
        how = f"{MODES[grading.mode]}, seeds from {grading.seed} on"
        about.append(f"lab {g.lab}, {how}; the digest of the submission begins with {g.digest[:12]}")
    if g.penalty:
        about.append(f"late: {g.penalty:g} points are lost")
    body = [f'<section><p class="message">{text(g.reason)}</p></section>'] if g.reason else []
    body.append(_points(g, grading))
    if not g.reason:
        body += [_of_test(t, grading, folder) for t in g.tests if t.failures or t.warnings]
    return _page(
        "feedback.html",
        name=text(g.name),
        score=f"{g.score:g}",
        most=f"{g.max_score:g}",
        about="".join(f'<p class="soft">{text(line)}</p>' for line in about if line),
        body="\n".join(body),
    )


def _points(g: Grade, grading: Grading) -> str:
    rows = [
        f'<tr><td class="text">{text(t.test)}</td><td>{_pill(t)}</td>'
        f'<td class="number">{t.passed} of {t.trials}</td>'
        + (f'<td class="number">{_isolated(t)}</td>' if grading.confirm else "")
        + f'<td class="number">{t.score:g} of {t.max_score:g}</td></tr>'
        for t in g.tests
    ]
    isolated = '<th class="number">isolated</th>' if grading.confirm else ""
    return (
        '<section><div class="scroll"><table><thead><tr><th>test</th><th></th><th class="number">passed trials</th>'
        f'{isolated}<th class="number">points</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _isolated(t: TestGrade) -> str:
    return f"{t.isolated_passed} of {t.isolated_trials}" if t.isolated_trials else "not run"


def _state(t: TestGrade) -> str:
    return "good" if t.score == t.max_score else "part" if t.score else "bad"


def _pill(t: TestGrade) -> str:
    words = {"good": "passed", "part": "in part", "bad": "failed"}
    return f'<span class="pill {_state(t)}">{words[_state(t)]}</span>'


def _of_test(t: TestGrade, grading: Grading, folder: Path | None) -> str:
    parts = [f"<h2>{text(t.test)}</h2>"]
    if t.passed == t.trials and any(f.stage == "isolated" and f.seeds for f in t.failures):
        parts.append(f"<p>It {text(SHARED)}</p>")
    parts += [_failure(failure, t, grading, folder) for failure in t.failures]
    parts += [f'<p class="part">warning: {text(w)} (in {n} trials that passed)</p>' for w, n in t.warnings.items()]
    return f"<section>{''.join(parts)}</section>"


def _failure(f: Failure, t: TestGrade, grading: Grading, folder: Path | None) -> str:
    asked = t.isolated_trials if f.stage == "isolated" else t.trials
    where = "with each server in a process of its own" if f.stage == "isolated" else f"in {MODES[grading.mode]}"
    how = f"{len(f.seeds)} of {asked} trials {where}, with seeds {shown_seeds(f.seeds)}" if f.seeds else ""
    parts = [f'<p class="message">{text(f.message)}</p>', f'<p class="soft">{text(how)}</p>' if how else ""]
    if f.causes:
        likely = "".join(f"<li>{text(cause)}</li>" for cause in f.causes)
        parts.append(f"<p>What is likely to be wrong:</p><ul>{likely}</ul>")
    if f.repeat:
        parts.append(f"<p>To repeat it: <code>{text(f.repeat)}</code></p>")
    if f.log and folder:
        with contextlib.suppress(OSError):
            log = cut((folder / f.log).read_text(errors="replace"), LOG)
            parts.append(f"<details><summary>What happened in one of them</summary><pre>{text(log)}</pre></details>")
    if f.picture and folder:
        parts.append(f'<p><a href="{text(quote(f.picture))}">The picture of one of them</a></p>')
    return f'<div class="failure">{"".join(parts)}</div>'


# -- without names -----------------------------------------------------------------------------------------------------


class Veil:
    """Gives each submission a number in place of its name, and takes its names out of what is said."""

    def __init__(self, submissions: Iterable[Submission]) -> None:
        drawn = sorted(submissions, key=lambda s: hashlib.sha256(f"{s.digest}{s.name}".encode()).digest())
        width = len(str(len(drawn)))
        self._names = {s.name: f"submission-{number:0{width}}" for number, s in enumerate(drawn, 1)}

    def hide(self, g: Grade) -> Grade:
        own = self._names[g.name]
        stem = re.sub(r"(\.tar)?\.\w+$", "", g.path.rpartition("/")[2])
        names = {name for name in (g.name, g.student, g.id, stem) if len(name) > 1 and name.lower() not in GENERAL}
        found = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)", re.IGNORECASE)

        def veiled(said: str) -> str:
            return found.sub(own, said)

        tests = [
            replace(
                t,
                failures=[
                    replace(f, message=veiled(f.message), repeat=veiled(f.repeat), causes=[], log="", picture="")
                    for f in t.failures
                ],
                warnings={veiled(warning): count for warning, count in t.warnings.items()},
            )
            for t in g.tests
        ]
        look, reason = list(map(veiled, g.look)), veiled(g.reason)
        return replace(
            g, name=own, path="", student="", id="", solution="", notes=[], reason=reason, look=look, tests=tests
        )


# -- the class -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def everybody(batch: Batch) -> Iterator[Sink]:
    """Takes grades; writes the pages of all of them and of the class, with names and without. Raises OSError."""
    out, grading = batch.out, batch.grading
    submissions = [graded.submission for graded in (*batch.graded, *batch.others)]
    veil, who = Veil(submissions), any(s.student for s in submissions)
    anonymous = out / "anonymous"
    anonymous.mkdir(exist_ok=True)
    for old in anonymous.glob("*.html"):
        old.unlink()
    with _Class(grading, batch.tests, who) as named, _Class(grading, batch.tests, False) as unnamed:

        def add(g: Grade) -> None:
            page = feedback(g, grading, out / g.name).encode()
            written(out / g.name / "feedback.html", page)
            named.add(g, f"{quote(g.name)}/feedback.html", f"{quote(g.name)}/results.json")
            hidden = veil.hide(g)
            written(anonymous / f"{hidden.name}.html", feedback(hidden, grading, None).encode())
            unnamed.add(hidden, f"{hidden.name}.html")

        yield add
        named.write(out / "index.html")
        unnamed.write(anonymous / "index.html")


@dataclass
class _Kind:
    """Failures that differ in numbers at the most. (Dictionaries, as sets that keep their order.)"""

    who: dict[str, None] = field(default_factory=dict)  # links
    tests: dict[str, None] = field(default_factory=dict)


class _Class:
    """What is to be said of a class: sums, and the rows in a file of their own."""

    def __init__(self, grading: Grading, tests: Sequence[str], who: bool) -> None:
        self._grading = grading
        self._tests = tests
        self._who = who  # whether the names of files tell students and their ids
        self._scores: list[float] = []
        self._most = 0.0
        self._states = {test: dict.fromkeys(("good", "part", "bad"), 0) for test in tests}
        self._kinds: dict[str, _Kind] = {}  # by message
        self._look: list[str] = []
        self._lab = ""
        self._rows = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> _Class:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def add(self, g: Grade, page: str, results: str = "") -> None:
        link = f'<a href="{text(page)}">{text(g.name)}</a>'
        self._scores.append(g.score)
        self._most = max(self._most, g.max_score)
        self._lab = self._lab or g.lab
        for t in g.tests:
            self._states[t.test][_state(t)] += 1
            for message in {re.sub(r"\d+", "N", f.message.partition("\n")[0])[:200] for f in t.failures}:
                kind = self._kinds.setdefault(message, _Kind())
                kind.who[link] = None
                kind.tests[t.test] = None
        self._look += [f"<li>{link}: {text(what)}</li>" for what in g.look]
        self._rows.write(self._row(g, link, results))

    def _row(self, g: Grade, link: str, results: str) -> str:
        late = ' <span class="pill part">late</span>' if g.late else ""
        cells = [f'<td class="text">{link}{late}</td>']
        cells += [f"<td>{text(g.student)}</td>", f"<td>{text(g.id)}</td>"] if self._who else []
        cells.append(f'<td class="number" data-value="{g.score:g}">{g.score:g}</td>')
        for t in g.tests:
            isolated = f" + {t.isolated_passed}/{t.isolated_trials}" if t.isolated_trials else ""
            cells.append(
                f'<td class="number {_state(t)}" data-value="{t.score:g}">{t.passed}/{t.trials}{isolated}</td>'
            )
        failure = g.reason or next((f.message.partition("\n")[0] for t in g.tests for f in t.failures), "")
        cells.append(f'<td class="text soft">{text(failure[:160])}</td>')
        cells.append(f'<td><a href="{text(results)}">results.json</a></td>' if results else "<td></td>")
        return f"<tr>{''.join(cells)}</tr>\n"

    def write(self, file: Path) -> None:
        g = self._grading
        self._rows.seek(0)
        confirmed = f", {g.confirm} isolated" if g.confirm else ", none isolated: points can be forged"
        about = f"{len(self._scores)} submissions; {g.trials} trials of each test in {MODES[g.mode]}{confirmed}"
        written(
            file,
            _page(
                "index.html",
                title=text(f"Raft lab, part {g.parts}"),
                about=text(f"{about}; lab {self._lab}" if self._lab else about),
                median=f"{statistics.median(self._scores) if self._scores else 0:g}",
                most=f"{self._most:g}",
                body="\n".join([self._suspicious(), self._distribution(), self._failures(), self._table()]),
            ).encode(errors="replace"),
        )

    def _suspicious(self) -> str:
        if not self._look:
            return ""
        return f"<section><h2>To be looked at by a human</h2><ul>{''.join(self._look)}</ul></section>"

    def _distribution(self) -> str:
        total = max(1, len(self._scores))
        bars = []
        for test in self._tests:
            s, at, rects = self._states[test], 0.0, []
            for state, count in s.items():
                rects.append(f'<rect class="{state}" x="{at:.2f}%" width="{100 * count / total:.2f}%" height="12"/>')
                at += 100 * count / total
            label = f"{s['good']} passed, {s['part']} in part, {s['bad']} failed"
            bars.append(
                f"<span>{text(test.removeprefix('Test'))}</span>"
                f'<svg height="12" role="img" aria-label="{label}"><title>{label}</title>{"".join(rects)}</svg>'
                f'<span class="number">{s["good"]} of {len(self._scores)}</span>'
            )
        return (
            f'<div class="columns"><section><h2>Scores</h2>{self._histogram()}</section>'
            f'<section><h2>How many passed each test</h2><div class="bars">{"".join(bars)}</div></section></div>'
        )

    def _histogram(self) -> str:
        most, counts = self._most or 1.0, [0] * BINS
        for score in self._scores:
            counts[min(BINS - 1, max(0, int(score / most * BINS)))] += 1
        highest, parts = max(1, *counts), []
        for number, count in enumerate(counts):
            height, x = 90 * count / highest, number * 40
            between = f"{most * number / BINS:g} to {most * (number + 1) / BINS:g}"
            parts.append(f'<rect class="ground" x="{x}" y="12" width="34" height="90" rx="2"/>')
            bar = f'<rect class="bar" x="{x}" y="{102 - height:.1f}" width="34" height="{height:.1f}" rx="2"/>'
            parts.append(f"<g><title>{between} points: {count}</title>{bar}</g>")
            if count:
                parts.append(f'<text x="{x + 17}" y="{98 - height:.1f}" text-anchor="middle">{count}</text>')
            parts.append(f'<text x="{x}" y="116">{most * number / BINS:g}</text>')
        end = f'<text x="{BINS * 40 - 6}" y="116" text-anchor="end">{most:g}</text>'
        return f'<svg viewBox="0 -2 {BINS * 40} 120" role="img" aria-label="scores">{"".join(parts)}{end}</svg>'

    def _failures(self) -> str:
        if not self._kinds:
            return ""
        rows = []
        for message, kind in sorted(self._kinds.items(), key=lambda found: -len(found[1].who)):
            links = list(kind.who)
            who = ", ".join(links[:SHOWN])
            if len(links) > SHOWN:
                rest = ", ".join(links[SHOWN:])
                who += f"<details><summary>and {len(links) - SHOWN} more</summary>{rest}</details>"
            all_tests = len(kind.tests) == len(self._tests)
            tests = "all" if all_tests else ", ".join(test.removeprefix("Test") for test in kind.tests)
            rows.append(
                f'<tr><td class="number">{len(links)}</td><td class="text">{text(message)}</td>'
                f'<td>{text(tests)}</td><td class="text">{who}</td></tr>'
            )
        head = '<thead><tr><th class="number"></th><th>message</th><th>tests</th><th>submissions</th></tr></thead>'
        return (
            "<section><h2>Kinds of failure</h2>"
            f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div></section>'
        )

    def _table(self) -> str:
        who = ["submission", *(["student", "id"] if self._who else [])]
        tests = [t.removeprefix("Test") for t in self._tests]
        cells = [f'<th><button type="button">{text(heading)}</button></th>' for heading in who]
        cells += [f'<th class="number"><button type="button">{text(t)}</button></th>' for t in ("score", *tests)]
        cells.append('<th><button type="button">first failure</button></th><th></th>')
        return (
            '<section><div class="bar-above"><h2>Submissions</h2>'
            '<input type="search" id="search" placeholder="search" aria-label="search"></div>'
            f'<div class="scroll"><table id="submissions"><thead><tr>{"".join(cells)}</tr></thead>'
            f"<tbody>\n{self._rows.read()}</tbody></table></div></section>"
        )
