"""The picture of a trial: one HTML file that anybody's browser opens, from a folder, offline.

    write(path, page(journal.lines(test="TestReElection2A", message="expected one leader, got none: ...", ...)))

All that it shows is in the journal's lines and their header, so it can as well be made of a journal's file.

What it promises:

- One file: no network, no other file. A Content-Security-Policy allows this page's own script and style sheet, by their
  hashes, and nothing else.
- All that comes from the trial, names, messages and prints, lies in it as JSON, compressed and in base64, and is shown
  as text: it can neither end the script element nor become markup.
- At most 60 KB plus the trial, which has at most MOST_DATA characters: of a longer one the last part is drawn, and the
  page says from where on.
- `ours` makes a page anew from what somebody else's holds, so that a grader need not trust what a submission's process
  has left.
- It opens where the trial failed, with the last two elections in view, or with all of it if it did not fail.

`data` says what is known of roles and terms, and from what. The page itself is picture.html, picture.css, loader.js
and the scripts named in SCRIPTS, which it holds one after another and compressed; there is no build step.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from labwatch.picture.data import Message, Trial

__all__ = ["MOST_DATA", "MOST_PAGE", "ours", "page", "write"]

SCRIPTS = ("model.js", "draw.js", "panel.js", "picture.js")
ELSE = "base-uri 'none'; form-action 'none'"  # what default-src does not stand for
MODES = {"real": "real threads", "virtual": "virtual time", "isolated": "isolated processes"}
MOST_DATA = 1_900_000  # characters of compressed data
MOST_PAGE = 2_000_000  # of a page
MOST_TRIAL = 50_000_000  # bytes of data, unpacked
DATA = re.compile('<script id="data"[^>]*>([A-Za-z0-9+/=]*)</script>')


def page(lines: Iterable[str]) -> str:
    """The page of a trial: `lines` is its journal, as labwatch.Journal.lines gives it or as its file has it."""
    head, *events = [line for line in map(_decoded, lines) if line is not None] or [None]
    left_out = 0
    while True:
        trial = Trial.of([head, *events[left_out:]])
        data = _packed(trial, left_out)
        if len(data) <= MOST_DATA or left_out == len(events):
            return _filled(trial.head.test, data)
        left_out = (left_out + len(events) + 1) // 2


def ours(page: str, title: str) -> str:
    """The page that somebody else has made, a submission's process, say, as one of ours: only its data is taken.

    Raises ValueError if there is none in it, or more than a browser should be asked to hold.
    """
    found = DATA.search(page)
    if found is None:
        raise ValueError("this is no picture")
    try:
        inflate = zlib.decompressobj()
        inflate.decompress(base64.b64decode(found[1]), MOST_TRIAL)
    except zlib.error as e:
        raise ValueError(f"the data of this picture cannot be read: {e}") from None
    if not inflate.eof:
        raise ValueError("the data of this picture are too much, or not whole")
    return _filled(title, found[1])


def write(path: Path, page: str) -> None:
    """Write a page, and the folder that it lies in if there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _decoded(line: str) -> Any:
    """What a line says; None if it is no JSON."""
    try:
        try:
            return msgspec.json.decode(line)
        except msgspec.DecodeError:  # half of a character, perhaps: Python's strings may hold that, and its JSON too
            whole = json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")
            return msgspec.json.decode(whole)
    except (ValueError, RecursionError):
        return None


# --- the data ------------------------------------------------------------------------------------------------------


def _packed(trial: Trial, left_out: int) -> str:
    head, alarms = trial.head, trial.alarms
    values, texts = _Table(), _Table()
    data = {
        "test": head.test,
        "message": head.message,
        "seed": head.seed,
        "how": MODES.get(head.mode, head.mode),
        "solution": head.solution,
        "repeat": head.repeat,
        "causes": head.causes,
        "left_out": head.dropped + left_out,
        "failed": next((alarm.time for alarm in alarms if alarm.kind == "failure"), None),
        "threads": trial.threads,
        "servers": trial.servers,
        "begin": trial.begin,
        "end": trial.end,
        "alarms": alarms,
        "stretches": [(s.server, s.begin, s.end, s.role, s.term, s.told) for s in trial.stretches],
        "down": [(lane.server, *span) for lane in trial.lanes for span in lane.down],
        "cut": [(lane.server, *span) for lane in trial.lanes for span in lane.cut],
        "network": trial.network,
        "story": trial.story,
        "elections": trial.elections,
        "marks": _columns(
            ("n", "time", "server", "kind", "text"),
            ((m.n, m.time, m.server, m.kind, texts.place(m.text)) for m in trial.marks),
        ),
        "messages": _columns(MESSAGE, (_row(m, texts, values) for m in trial.messages)),
        "texts": texts.entries,
        "values": values.entries,
    }
    return _compressed(msgspec.json.encode(data))


MESSAGE = (
    *("n", "server", "to", "method", "kind", "term", "label", "args", "sent", "reached", "began", "ended", "left"),
    *("back", "late", "fate", "reply", "answer"),
)
"""The columns of the messages. method, label, fate and answer are places in `texts`, args and reply in `values`."""


def _row(m: Message, texts: _Table, values: _Table) -> tuple[Any, ...]:
    return (
        *(m.n, m.server, m.to, texts.place(m.method), m.kind, m.term, texts.place(m.label), values.place(m.args)),
        *(m.sent, m.reached, m.began, m.ended, m.left, m.back, m.late),
        *(texts.place(m.fate), values.place(m.reply), texts.place(m.answer)),
    )


def _columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return columns


class _Table:
    """Values, each of them once."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._places: dict[bytes, int] = {}

    def place(self, value: Any) -> int:
        key = msgspec.json.encode(value)
        place = self._places.setdefault(key, len(self.entries))
        if place == len(self.entries):
            self.entries.append(value)
        return place


# --- the page ------------------------------------------------------------------------------------------------------


def _filled(title: str, data: str) -> str:
    before, after = _template()
    return f"{before[0]}{html.escape(title)}{before[1]}{data}{after}"


@cache
def _template() -> tuple[tuple[str, str], str]:
    """The page without what is the trial's own: up to its title, up to its data, and the rest."""
    folder = files("labwatch.picture")

    def read(*names: str) -> str:
        return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)

    style, loader, script = read("picture.css"), read("loader.js"), read(*SCRIPTS)
    policy = f"default-src 'none'; script-src {_hash(loader)} {_hash(script)}; style-src {_hash(style)}; {ELSE}"
    text = read("picture.html")
    parts = {"policy": policy, "style": style, "packed": _compressed(script.encode()), "loader": loader}
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    start, _, rest = text.partition("{{title}}")
    middle, _, end = rest.partition("{{data}}")
    return (start, middle), end


def _compressed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
