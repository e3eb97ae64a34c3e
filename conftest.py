"""The lab's options, markers and fixtures, for pytest started anywhere in this repository."""

pytest_plugins = ["pytester"]  # pytester for the tests of the harness
