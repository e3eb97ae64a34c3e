"""Where the parts of the repository lie: in a checkout at their places, in a wheel below this package.

What a wheel carries for staff is laid out by pyproject.toml: `labgrade/tree` is the top of the repository, and
`labgrade/tree/harness` its tests/harness. The lab's own tests are labrun.TESTS.
"""

from __future__ import annotations

from labrun import HOME

__all__ = ["GALLERY", "HARNESS_TESTS", "TOP"]

_IN_CHECKOUT = (HOME / "pyproject.toml").exists() and (HOME / "tests" / "harness").is_dir()

TOP = HOME if _IN_CHECKOUT else HOME / "labgrade" / "tree"
"""The folder of README.md, pyproject.toml and .gitignore."""

HARNESS_TESTS = HOME / "tests" / "harness" if _IN_CHECKOUT else TOP / "harness"
"""The harness's own tests; what only staff run is in `staff` there."""

GALLERY = HARNESS_TESTS / "staff" / "broken"
