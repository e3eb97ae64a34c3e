"""The picture of a trial as a person sees it, in headless Chromium (browser.py)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import browser
from browser import Browser, Page
from labwatch.picture import page, write
from test_picture import HOSTILE, Story, header, two_votes
from watched import BROKEN, REPOSITORY, watched

pytestmark = pytest.mark.skipif(browser.found() is None, reason=browser.MISSING)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser.start() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages as files: `no_leader.html` of a failing test, `two_votes.html` of one that passes and breaks rules, `many.html` of 10,000 messages."""
    folder = tmp_path_factory.mktemp("pages with spaces & signs #1")
    no_leader = watched(BROKEN / "needs_all_votes.py", "TestReElection2A", 1)
    write(folder / "no_leader.html", page(no_leader.journal.lines(**header(no_leader, "TestReElection2A"))))
    write(folder / "two_votes.html", page(map(json.dumps, two_votes().lines)))
    write(folder / "many.html", page(map(json.dumps, many_messages(10_000))))
    return folder


def many_messages(count: int, servers: int = 7) -> list[dict[str, Any]]:
    """A leader that sends its followers entries in turn: `count` messages in about 20 s."""
    story = Story(servers=servers, test="TestMany", message="only 0 decided for index 1; wanted 7")
    story.sends(0, 1, "RequestVote", Term=1)
    for k in range(count - 1):
        to = 1 + k % (servers - 1)
        call = story.sends(0, to, "AppendEntries", Term=1, PrevLogIndex=k, Entries=[{"Term": 1, "Command": k}])
        story.answers(0, to, call, Term=1, Success=k % 7 > 0)
    story.add("noted", text="FAILED only 0 decided")
    story.add("end")
    for line in story.lines[1:]:
        line["t"] /= 3.5
    return story.lines


# What the page knows of itself: the Picture that `ready` gives.
def seen(page: Page, expression: str) -> Any:
    return page.value(
        f"ready.then((picture) => {{ const {{ trial, view, chosen, painter }} = picture; return {expression}; }})"
    )


def place_of(page: Page, message: int) -> tuple[float, float]:
    """Where a message can be clicked, near its end: others may pass where it begins. In px of the window."""
    x, y = seen(page, f"(([[x0, y0, x1, y1]]) => [(x0 + x1) / 2, y0 + (y1 - y0) * 0.9])(painter.ends({message}))")
    left, top = page.value(
        "(({ left, top }) => [left, top])(document.getElementById('picture').getBoundingClientRect())"
    )
    return left + x, top + y


def panel(page: Page) -> str:
    text: str = page.value("document.getElementById('panel').innerText")
    return text


# --- opening ---


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 380])
def test_it_draws_without_a_complaint_and_asks_the_network_for_nothing(chromium, pages, dark, width):
    shown = chromium.open(pages / "no_leader.html", width, dark=dark)
    colours = seen(
        shown,
        "new Set(new Uint32Array(painter.c.getImageData(0, 0, painter.canvas.width, painter.canvas.height).data.buffer)).size",
    )
    chromium.listen(0.2)
    assert colours > 20
    assert shown.complaints == []
    assert shown.requests == [(pages / "no_leader.html").as_uri()]
    assert shown.value("document.documentElement.scrollWidth") <= width


def test_it_opens_at_the_failure_with_the_last_two_elections_before_it(chromium, pages):
    shown = chromium.open(pages / "no_leader.html")
    begin, end, failed = seen(shown, "[painter.begin, painter.end, trial.failed]")
    terms = seen(shown, f"trial.elections.filter((e) => e.time >= {begin} && e.time < trial.failed).map((e) => e.term)")
    assert begin < failed < end
    assert len(set(terms)) == 2
    assert "expected one leader, got none" in shown.value("document.getElementById('verdict').textContent")
    assert "The test failed" in panel(shown)
    assert "where the threads were" in panel(shown)


def test_of_a_test_that_passed_but_breaks_a_rule_the_rules_are_named_and_in_view(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    assert (
        shown.value("document.getElementById('verdict').textContent")
        == "The test passed, but broke a rule of the paper."
    )
    assert "voted for 2" in shown.value("document.getElementById('alarms').innerText")
    assert all(seen(shown, "trial.alarms.map((alarm) => alarm.time > painter.begin && alarm.time < painter.end)"))


def test_ten_thousand_messages_load_and_can_be_moved(chromium, pages):
    shown = chromium.open(pages / "many.html")
    shown.press("0")
    assert seen(shown, "[trial.messages.count, painter.seen]") == [10_000, 10_000]
    shown.press("+")
    assert seen(shown, "painter.seen") < 10_000
    assert shown.complaints == []


# --- looking ---


def test_a_click_on_a_message_shows_its_args_reply_and_times_and_marks_the_pair(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    shown.press("b")
    message = seen(shown, "trial.at.get(trial.alarms[chosen.alarm].shows[0].n).message")
    shown.click(*place_of(shown, message))
    text = panel(shown)
    assert seen(shown, "chosen.message") == message
    for word in (
        "Raft.RequestVote",
        "server 2 → server 0",
        "VoteGranted\ntrue",
        "CandidateId\n2",
        "handler began",
        "Call returned",
    ):
        assert word in text


def test_the_pointer_shows_what_lies_under_it(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    shown.press("b")
    shown.move(*place_of(shown, seen(shown, "trial.at.get(trial.alarms[chosen.alarm].shows[0].n).message")))
    assert "RequestVote" in shown.value("document.getElementById('tip').innerText")
    assert "granted" in shown.value("document.getElementById('tip').innerText")


def test_a_click_on_a_lane_shows_how_its_server_stood(chromium, pages):
    shown = chromium.open(pages / "no_leader.html")
    left, top = shown.value(
        "(({ left, top }) => [left, top])(document.getElementById('picture').getBoundingClientRect())"
    )
    server = seen(shown, "trial.cut.find(([, begin, end]) => end >= trial.failed)[0]")
    x, y = seen(shown, f"[painter.x(trial.failed) - 60, painter.laneY({server}) + 40]")
    shown.click(left + x, top + y)
    assert f"server {server}\n" in panel(shown)
    assert "network\ndisconnected" in panel(shown)


def test_dragging_moves_the_wheel_zooms_around_the_pointer(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    left, top = shown.value(
        "(({ left, top }) => [left, top])(document.getElementById('picture').getBoundingClientRect())"
    )
    time = seen(shown, "view.axis.back(view.left + (600 - painter.layout.gutter) / view.scale)")
    scale = seen(shown, "view.scale")
    shown.tell("Input.dispatchMouseEvent", type="mouseWheel", x=left + 600, y=top + 200, deltaX=0, deltaY=-300)
    shown.settle()
    assert seen(shown, "view.scale") > scale
    assert seen(shown, "view.axis.back(view.left + (600 - painter.layout.gutter) / view.scale)") == pytest.approx(time)
    before = seen(shown, "view.left * view.scale")
    for kind, x in (("mousePressed", 600), ("mouseMoved", 500), ("mouseReleased", 500)):
        shown.tell(
            "Input.dispatchMouseEvent", type=kind, x=left + x, y=top + 200, button="left", buttons=1, clickCount=1
        )
    assert seen(shown, "view.left * view.scale") == pytest.approx(before + 100)


def test_keys_alone_suffice(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    for _ in range(40):  # to the picture, past the buttons
        if shown.value("document.activeElement.id") == "picture":
            break
        shown.press("Tab")
    assert shown.value("document.activeElement.id") == "picture"
    shown.press("b")
    assert "voted for 2" in panel(shown)
    shown.press("h")
    assert seen(shown, "trial.messages.shown.every((yes) => yes)")
    shown.press("ArrowDown")
    server = seen(shown, "chosen.server")
    shown.press("n")
    first = seen(shown, "chosen.message")
    shown.press("p")
    assert seen(shown, "chosen.message") < first
    shown.press("n")
    assert seen(shown, "chosen.message") == first
    assert server in seen(shown, f"[trial.messages.server[{first}], trial.messages.to[{first}]]")
    left = seen(shown, "view.left")
    shown.press("ArrowRight")
    assert seen(shown, "view.left") > left
    scale = seen(shown, "view.scale")
    shown.press("+")
    assert seen(shown, "view.scale") > scale
    shown.press("0")
    assert seen(shown, "[painter.begin <= trial.begin, painter.end >= trial.end]") == [True, True]
    shown.press("?")
    assert "Keys" in shown.value("document.getElementById('keys').innerText")
    shown.press("Escape")
    assert seen(shown, "[chosen.message, chosen.alarm]") == [None, None]
    assert shown.complaints == []


def test_search_goes_through_what_is_found_also_where_a_filter_hides_it(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    shown.press("/")
    shown.type("heartbeat to server 3")
    assert " found" in shown.value("document.getElementById('found').textContent")
    shown.press("Enter")
    message = seen(shown, "chosen.message")
    assert seen(shown, f"[trial.messages.kind[{message}], trial.messages.shown[{message}]]") == ["heartbeat", 1]
    shown.press("Enter")
    assert seen(shown, "chosen.message") > message


def test_filters_leave_what_was_asked_for(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    shown.value("document.querySelector('[data-server=\"4\"]').click()")
    ends = seen(
        shown,
        "[...trial.messages.n.keys()].filter((i) => trial.messages.shown[i]).map((i) => [trial.messages.server[i], trial.messages.to[i]])",
    )
    assert ends
    assert all(4 in pair for pair in ends)
    shown.value(
        "(document.getElementById('term').value = '7', document.getElementById('term').dispatchEvent(new Event('change')))"
    )
    terms = seen(
        shown, "[...trial.messages.n.keys()].filter((i) => trial.messages.shown[i]).map((i) => trial.messages.term[i])"
    )
    assert set(terms) == {7}


def test_equal_steps_keep_the_order_of_events_and_come_back(chromium, pages):
    shown = chromium.open(pages / "two_votes.html")
    shown.press("e")
    places = seen(shown, "trial.elections.map((e) => painter.x(e.time))")
    assert places == sorted(places)
    gaps = seen(shown, "trial.story.slice(1).map((s, k) => painter.x(s[1]) - painter.x(trial.story[k][1]))")
    assert min(gap for gap in gaps if gap > 0.001) > 1
    shown.press("e")
    assert seen(shown, "[view.axis.of(1234567), painter.begin < trial.alarms[0].time]") == [1234567, True]


def test_the_trial_stands_at_the_foot_as_text(chromium, pages):
    shown = chromium.open(pages / "no_leader.html")
    shown.value("document.getElementById('text').open = true")
    shown.settle()
    text = shown.value("document.getElementById('lines').textContent")
    for word in (
        "server 0  candidate of term",
        "Raft.RequestVote to server 2: vote?",
        "checkOneLeader",
        "✖ expected one leader",
    ):
        assert word in text


# --- hostile text ---


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_submission_wrote_stays_text(chromium, tmp_path, text):
    story = Story(
        test=text,
        message=text,
        repeat=text,
        causes=[text],
        broken=[{"message": text, "t": 0.006}],
        races=[{"summary": text, "report": text, "t": 0.007}],
    )
    call = story.sends(0, 1, text, Term=1, **{text: {text: [text]}})
    story.answers(0, 1, call, **{text: text})
    for server in (0, 1):
        story.add("printed", server=server, text=text)
    story.add("noted", text=text)
    story.add("noted", text=f"the test ends here: {text}; its threads are")
    story.add("noted", text=f"    {text}")
    story.of(0, "applied", index=1, command=text)
    file = tmp_path / "hostile.html"
    write(file, page(map(json.dumps, story.lines)))
    shown = chromium.open(file)
    elements = shown.value("document.querySelectorAll('script, img').length")
    shown.value("document.getElementById('text').open = true")
    for what in (
        "{ message: 0 }",
        "{ mark: 0 }",
        "{ story: 0 }",
        "{ alarm: 0 }",
        "{ alarm: 1 }",
        "{ server: 0, time: 9000 }",
    ):
        seen(shown, f"picture.choose({what})")
        shown.settle()
    shown.press("/")
    shown.type("a")
    chromium.listen(0.1)
    assert shown.complaints == []
    assert len(shown.requests) == 1
    assert shown.value("document.querySelectorAll('script, img').length") == elements
    assert shown.value("document.getElementById('verdict').textContent") == text.encode(errors="replace").decode()


# --- the README's picture ---


def test_the_readmes_picture_shows_two_leaders_of_one_term(chromium, tmp_path):
    """It is written to labwatch/picture/example.png if the environment has PICTURE."""
    trials = (watched(BROKEN / "half_the_votes_are_enough.py", "TestReElection2A", seed) for seed in range(1, 40))
    w = next(w for w in trials if "two leaders" in w.rules)
    file = tmp_path / "page.html"
    repeat = {"repeat": "pytest -m 2A -k TestReElection2A --raft myraft.py --sim --seed 1"}
    write(file, page(w.journal.lines(**header(w, "TestReElection2A") | repeat)))
    shown = chromium.open(file, 1100, 610)
    seen(shown, "picture.choose({ alarm: 0 })")
    png = REPOSITORY / "labwatch/picture/example.png" if os.environ.get("PICTURE") else tmp_path / "example.png"
    shown.picture(png)
    assert png.read_bytes().startswith(b"\x89PNG")
    leads = seen(shown, "trial.stretches.filter((s) => s[3] === 'leader').map((s) => [s[4], s[0]])")
    assert len({term for term, _ in leads}) < len({tuple(lead) for lead in leads})
