"""What the process that has the terminal shows of the lab: its lines, or after trials a table and the failures."""

from __future__ import annotations

import contextlib
import os
import sys
import webbrowser
from collections.abc import Generator
from pathlib import Path

import pytest

from labrun import record, settings
from labrun.record import Kind, NodeId, Record
from labrun.report import COLUMNS, Report
from labrun.settings import repeat_command
from labwatch.columns import painted

__all__ = ["Terminal"]


class Terminal:
    """A plugin of the controlling process. Where no lab test runs it does nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: list[Record] = []
        self.report: Report | None = None  # with --report
        self._after_line: Path | None = None

    @property
    def _reporter(self) -> pytest.TerminalReporter | None:
        reporter: pytest.TerminalReporter | None = self.config.pluginmanager.getplugin("terminalreporter")
        return reporter

    def show(self, line: str, path: Path, **markup: bool) -> None:
        """Write a line about the test file `path`, captured or not. After trials there is a table instead."""
        reporter = self._reporter
        if reporter is None or settings.of(self.config).trials > 1:
            return
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            if reporter.currentfspath is not self._after_line:
                reporter.ensure_newline()
            reporter.write(f"{line}\n", flush=True, **markup)
            # So that the next test does not begin by repeating the name of its file.
            self._after_line = reporter.currentfspath = Path(path)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """With xdist it is the workers that find out whether there are lab tests."""
        if any(map(NodeId.parse, ids)):
            settings.of(self.config)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found: Record | None = getattr(report, "lab", None) or self._record_of_lost(report)
        if found is None:
            return
        path = self.config.rootpath / report.location[0]
        if hasattr(report, "node"):  # from a worker
            for line in found.lines:
                self.show(line, path)
        if report.failed:
            self.show(f"--- FAIL: {found.test} ({report.duration:.2f}s)", path, red=True)
            self.show(f"    {found.message}", path)
            for cause in found.causes:
                self.show(f"    likely cause: {cause}", path)
        self.records.append(self.report.add(report, found) if self.report else found)

    def _record_of_lost(self, report: pytest.TestReport) -> Record | None:
        """The record of a lab test whose process ended, or whose set-up failed, so that it has none of its own."""
        node = NodeId.parse(report.nodeid)
        s = settings.known(self.config)
        if report.outcome != "failed" or report.when in ("call", "teardown") or not node or not s:
            return None
        if report.when == "setup":
            cause, message = "harness", report.longreprtext.strip().rpartition("\n")[2]
        else:  # xdist's own words say less
            cause, message = "exit", "the process ended while the test ran"
        lost = report.lab = Record(  # type: ignore[attr-defined]
            nodeid=report.nodeid,
            test=node.test,
            trial=node.trial,
            seed=s.seeds.of(node.trial),
            mode=s.mode,
            outcome="failed",
            cause=cause,  # type: ignore[arg-type]
            message=message,
            repeat=repeat_command(self.config, s, node),
        )
        return lost

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self) -> Generator[None]:
        """Of failures of one kind, pytest shows the first in full; the lab's own section names them all."""
        reporter = self._reporter
        if reporter is None or not self.records:
            return (yield)
        if reporter.currentfspath is self._after_line:
            reporter.currentfspath = None  # the cursor is at the beginning of a line already
        failed = reporter.stats.get("failed", [])
        seen: set[Kind] = set()
        shown = []
        for report in failed:
            kind = report.lab.kind if hasattr(report, "lab") else None
            if kind is None or kind not in seen:
                shown.append(report)
            if kind:
                seen.add(kind)
        if failed:
            reporter.stats["failed"] = shown
        if reporter.hasmarkup:
            for report in shown:
                report.sections = [
                    (title, _painted(text) if title == COLUMNS else text) for title, text in report.sections
                ]
        yield
        if failed:
            reporter.stats["failed"] = failed
        s = settings.of(self.config)
        if s.trials > 1:
            last = s.seeds.of(s.trials - 1)
            reporter.write_sep("=", f"lab: {s.trials} trials, seeds {s.seeds.first} to {last}")
            for line in [*record.trials_table(self.records), "", *record.repeat_lines(self.records)]:
                reporter.write_line(line)
        if s.picture:
            self._show_picture(reporter)

    def _show_picture(self, reporter: pytest.TerminalReporter) -> None:
        """Open the picture of the first test that failed, or of the first one if none did; say where it is."""
        failed_first = sorted(self.records, key=lambda r: r.passed)
        name = next((r.picture for r in failed_first if r.picture), None)
        if name is None:
            reporter.write_line("no picture: there is one of a test that has made its servers")
            return
        picture = ((settings.report_folder(self.config) or Path()) / name).resolve()
        opened = _has_display() and webbrowser.open(picture.as_uri())
        reporter.write_line(f"picture: {picture}{'' if opened else ' (there is no browser here: open it in one)'}")

    def pytest_sessionfinish(self) -> None:
        if self.records:
            settings.remember(self.config, settings.of(self.config), self.records)


def _has_display() -> bool:
    """Whether a browser can show something; what webbrowser finds without a display runs in the terminal."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, names))


def _painted(text: str) -> str:
    return "\n".join(map(painted, text.split("\n")))
