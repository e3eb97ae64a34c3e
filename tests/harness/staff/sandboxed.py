"""What a test of grading needs: a sandbox in which this interpreter runs."""

from __future__ import annotations

import functools

import pytest

from labgrade.sandbox import Kind, SandboxError, choose

__all__ = ["needs_sandbox", "trouble"]


@functools.cache
def trouble(kind: Kind) -> str:
    """Why there is no such sandbox here; "" if there is one."""
    try:
        found = choose(kind, readable=[])
    except SandboxError as e:
        return str(e)
    return "" if found.kind != "none" else found.line


needs_sandbox = pytest.mark.skipif(bool(trouble("auto")), reason=f"grading wants a sandbox: {trouble('auto')}")
