"""A page in headless Chromium, over its DevTools protocol: what a person would see, click and type.

    with Browser.start() as browser:
        page = browser.open(path)
        page.value("document.title")           # what an expression comes to, as JSON has it; promises are awaited
        page.press("ArrowLeft"), page.click(x, y), page.type("text")
        page.picture(path)                     # a PNG
        page.complaints, page.requests         # errors and console output; what it has asked the network for

The protocol runs over two pipes, a line of JSON and a zero byte each way, so nothing needs to be installed besides the
distribution's package `chromium`, and no port is opened.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # s for an answer
NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}

# Chromium reads from 3 and writes to 4, numbers that the two pipes may have the other way round.
LAUNCH = """
import fcntl, os, sys
theirs, gone = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(theirs, 3)
os.dup2(gone, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""

MISSING = f"there is no headless Chromium here: none of {', '.join(NAMES)} on PATH"


def found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One process of Chromium."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, come: int) -> None:
        self._process = process
        self._to = to
        self._come = come
        self._rest = b""
        self._number = 0
        self.pages: dict[str, Page] = {}  # by session

    @classmethod
    @contextlib.contextmanager
    def start(cls, *options: str) -> Iterator[Browser]:
        """A fresh profile, which is gone afterwards. Where this is root, Chromium must do without its sandbox."""
        program = found()
        assert program, MISSING
        theirs, ours = os.pipe()
        come, gone = os.pipe()
        options = (
            *options,
            "--headless=new",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
        )
        if os.geteuid() == 0:
            options = (*options, "--no-sandbox")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            launch = [sys.executable, "-c", LAUNCH, str(theirs), str(gone)]
            command = [*launch, program, *options, f"--user-data-dir={profile}"]
            process = subprocess.Popen(command, pass_fds=(theirs, gone), stderr=subprocess.DEVNULL)
            os.close(theirs)
            os.close(gone)
            browser = cls(process, ours, come)
            try:
                yield browser
            finally:
                with contextlib.suppress(OSError, AssertionError):
                    browser.tell("Browser.close")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
                process.wait()
                os.close(ours)
                os.close(come)

    def processor_seconds(self) -> float:
        """What Chromium's processes, those that live, have used of the processor. Linux alone."""
        pids, seconds = [self._process.pid], 0.0
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                children = Path(f"/proc/{pid}/task").glob("*/children")
                pids += [int(child) for file in children for child in file.read_text().split()]
        return seconds

    def tell(self, method: str, session: str = "", **parameters: Any) -> Any:
        """One command; its result. Raises AssertionError for an error, or when none comes."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        number = self._number
        until = time.monotonic() + PATIENCE
        while True:
            answer = self._next(until)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def listen(self, seconds: float) -> None:
        """Take what the browser tells for so long."""
        until = time.monotonic() + seconds
        with contextlib.suppress(AssertionError):
            while True:
                self._next(until)

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._come], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._come, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        if page := self.pages.get(answer.get("sessionId", "")):
            page.told(answer)
        return answer

    def open(self, path: Path, width: int = 1400, height: int = 900, *, dark: bool = False, says: bool = True) -> Page:
        """A page of its own for a file, once it says that it is ready, or is loaded if it `says` nothing."""
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Runtime", "Page", "Network", "Log"):
            page.tell(f"{domain}.enable")
        page.resize(width, height)
        page.tell(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        page.tell("Page.navigate", url=path.as_uri())
        until = time.monotonic() + PATIENCE
        begun = "typeof ready !== 'undefined'" if says else "location.protocol === 'file:'"
        while not page.value(f"document.readyState === 'complete' && {begun}"):
            assert not page.complaints, f"the page does not come up: {page.complaints}"
            assert time.monotonic() < until, "the page does not come up"
        page.value("ready.then(() => true)" if says else "true")
        return page


class Page:
    """One page; `complaints` are errors and what it wrote on the console, `requests` the addresses that it asked for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def tell(self, method: str, **parameters: Any) -> Any:
        return self._browser.tell(method, self._session, **parameters)

    def told(self, event: dict[str, Any]) -> None:
        """The browser tells of something that happened in the page."""
        parameters = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled":
                self.complaints.append(
                    f"{parameters['type']}: {[a.get('value', a.get('description')) for a in parameters['args']]}"
                )
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])

    def value(self, expression: str) -> Any:
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"].get("exception", answer)
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def press(self, key: str, *, shift: bool = False) -> None:
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.tell(
            "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, modifiers=8 * shift, **text
        )
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self.settle()

    def type(self, text: str) -> None:
        self.tell("Input.insertText", text=text)
        self.settle()

    def move(self, x: float, y: float) -> None:
        self.tell("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def picture(self, path: Path) -> None:
        self.settle()
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))
