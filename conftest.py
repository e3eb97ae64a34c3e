"""For pytest started anywhere in this repository. Its options, markers and fixtures come with the installation."""

import importlib.metadata

import pytest

try:
    importlib.metadata.distribution("raft-lab")
except importlib.metadata.PackageNotFoundError:
    raise pytest.UsageError("the lab is not installed for this Python: python -m pip install -e .") from None
