"""What a picture costs, measured in the page: `python tests/harness/staff/bench_picture.py`.

It prints how long a page of 10,000 messages takes from the beginning of its navigation until it is drawn (the goal is
2 s), and how many frames a second there are while it is moved (the goals: 60 with 7 servers and 600 messages, 30 with
10,000); besides, what a frame costs of the processor, which a busy machine changes less, and what making the page costs.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from browser import MISSING, Browser, Page, found
from labwatch.picture import page, write
from test_picture_page import many_messages
from watched import REPOSITORY, watched

RUNS = 5
# Moves the picture by some px in each frame for two seconds; ms of each frame, and of the drawing alone.
PAN = """ready.then((picture) => new Promise((done) => {
  const frames = [], drawing = [];
  let before = performance.now(), way = 1, until = before + 2000;
  const frame = (now) => {
    frames.push(now - before);
    before = now;
    const left = picture.view.left;
    const begin = performance.now();
    picture.pan(way * 12);
    picture.drawNow();
    drawing.push(performance.now() - begin);
    if (picture.view.left === left) way = -way;
    if (now < until) requestAnimationFrame(frame);
    else done([frames.slice(1), drawing]);
  };
  requestAnimationFrame(frame);
}))"""


def panning(browser: Browser, shown: Page, name: str) -> None:
    """Over the whole trial, and over a tenth of it."""
    for part, zoom in (("all of it in view", 1.05), ("a tenth in view", 10)):
        shown.value(f"ready.then((p) => {{ p.fitAll(); p.zoom({zoom}); p.drawNow(); return 0; }})")
        seen = shown.value("ready.then((p) => p.painter.seen)")
        begun = browser.processor_seconds()
        frames, drawing = shown.value(PAN)
        used = 1000 * (browser.processor_seconds() - begun) / len(frames)
        mean, middle = 1000 * len(frames) / sum(frames), 1000 / statistics.median(frames)
        print(
            f"{name}, {part} ({seen} messages): {mean:.0f} frames a second in the mean, {middle:.0f} in the middle;",
            end=" ",
        )
        print(
            f"for a frame the script works {statistics.median(drawing):.1f} ms, and all of Chromium {used:.0f} ms of processor"
        )


def main() -> None:
    if found() is None:
        raise SystemExit(MISSING)
    with tempfile.TemporaryDirectory() as folder, Browser.start() as browser:
        w = watched(REPOSITORY / "raft/raft.py", "TestManyElections2A", 2)
        small, large = Path(folder, "small.html"), Path(folder, "large.html")
        lines = [json.dumps(line) for line in many_messages(10_000)]
        begun = time.process_time()
        made = page(lines)
        print(f"making a page of 10,000 messages: {time.process_time() - begun:.2f} s, {len(made) / 1e6:.2f} MB")
        write(large, made)
        write(small, page(w.journal.lines(test="TestManyElections2A")))
        loads = []
        for _ in range(RUNS):
            shown = browser.open(large)
            loads.append(shown.value("ready.then((p) => p.drawn)"))
        print(
            f"10,000 messages are drawn after {statistics.median(loads) / 1000:.2f} s (median of {RUNS}; {min(loads):.0f} to {max(loads):.0f} ms)"
        )
        shown = browser.open(small)
        shown.value("ready.then((p) => { p.toggle(p.filter.kinds, 'heartbeat'); return 0; })")
        panning(
            browser, shown, "7 servers, " + str(shown.value("ready.then((p) => p.trial.messages.count)")) + " messages"
        )
        panning(browser, browser.open(large), "7 servers, 10,000 messages")


if __name__ == "__main__":
    main()
