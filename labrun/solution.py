"""Finding and loading the solution that `--raft WHAT` names.

WHAT is a Python file; a folder, which offers `Make` in its `__init__.py` or, without one, in its `raft.py`; or a dotted
module, found where `import` would find it. `find` looks only for files: nothing of the solution runs before it is
loaded. It raises SolutionError, with what to do, if there is nothing to load.

`loaded` executes the solution afresh and forgets it afterwards, together with every module of its own that it imported,
so that no test sees another's globals. A file or folder is loaded under the name "solution", so it may be called
anything, `raft` included; modules beside it, and relative imports in a package, work as usual. Nothing is written next
to the solution.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labrun import HOME, LAB
from labsim.stacks import is_library

__tracebackhide__ = True

NAME = "solution"
SHIPPED = HOME / "raft" / "raft.py"
OURS = [*LAB, *(HOME / name for name in ("labrun", "labsim", "labwatch", "labgrade"))]


class SolutionError(Exception):
    """There is no solution to run: one message that says what is wrong, where, and what to do."""

    cause = "import"


@dataclass(frozen=True)
class Solution:
    """Where a solution is. `what` is how the user calls it."""

    what: str
    name: str  # the name to load it under
    file: Path
    package: bool  # `file` is the __init__.py of a package
    home: Path  # the folder from which its absolute imports are found
    root: Path  # its own modules are those whose files lie here

    @property
    def place(self) -> Path:
        """Its file, or a package's folder."""
        return self.root if self.package else self.file

    def owns(self, path: str) -> bool:
        """Whether a file is one of the solution's own, or of the shipped Raft, of which it may be a variant."""
        file = Path(path)
        return file == SHIPPED or (
            file.is_relative_to(self.root)
            and not any(file.is_relative_to(folder) for folder in OURS)
            and not is_library(path)
        )


def find(what: str, base: Path) -> Solution:
    """The solution called `what`, a path relative to `base` or a dotted module. Raises SolutionError."""
    path = Path(os.path.abspath(base / Path(what).expanduser()))
    if path.is_file():
        if path.suffix != ".py":
            raise SolutionError(f"--raft {what}: {path} is not a Python file")
        return Solution(what, NAME, path, False, path.parent, path.parent)
    if path.is_dir():
        if (path / "__init__.py").is_file():
            return Solution(what, NAME, path / "__init__.py", True, path.parent, path)
        if (path / "raft.py").is_file():
            return Solution(what, NAME, path / "raft.py", False, path, path)
        raise SolutionError(f"--raft {what}: the folder {path} holds neither __init__.py nor raft.py")
    if all(part.isidentifier() for part in what.split(".")):
        return _find_module(what, base)
    raise SolutionError(f"--raft {what}: there is no file or folder {path}")


def _find_module(what: str, base: Path) -> Solution:
    """Find a dotted module without importing its packages."""
    folders = [str(base), *sys.path]
    home: Path | None = None
    spec = None
    for part in what.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, folders)
        if spec is None:
            raise SolutionError(
                f"--raft {what}: there is no module {what}, and no file or folder of that name in {base}"
            )
        folders = list(spec.submodule_search_locations or [])
        if home is None:
            location = folders[0] if folders else spec.origin
            home = Path(location or ".").parent
    if spec is None or home is None or not spec.has_location or not spec.origin:
        raise SolutionError(f"--raft {what}: {what} has no Python file that could be loaded")
    file = Path(spec.origin)
    if file.name == "__init__.py" or "." not in what:
        root = file.parent if file.name == "__init__.py" else file
    else:
        root = home / what.partition(".")[0]
    return Solution(what, what, file, file.name == "__init__.py", home, root)


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """Import leaves no bytecode: the folder may be somebody else's."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextlib.contextmanager
def loaded(solution: Solution) -> Iterator[types.ModuleType]:
    """The solution's module, executed afresh; at the end it is forgotten. Raises SolutionError if it does not load."""
    before = dict(sys.modules)
    sys.path.append(str(solution.home))
    try:
        with nothing_written():
            yield _execute(solution)
    finally:
        sys.path.remove(str(solution.home))
        for name, module in list(sys.modules.items()):
            if before.get(name) is not module and (name == solution.name or _below(module, solution.root)):
                del sys.modules[name]
                if name in before:
                    sys.modules[name] = before[name]


def _below(module: types.ModuleType, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(root)


def _execute(solution: Solution) -> types.ModuleType:
    module = types.ModuleType(solution.name)
    module.__file__ = str(solution.file)
    if solution.package:
        module.__path__ = [str(solution.file.parent)]
        module.__package__ = solution.name
    else:
        module.__package__ = solution.name.rpartition(".")[0]
    sys.modules[solution.name] = module
    try:
        code = compile(solution.file.read_bytes(), str(solution.file), "exec")
        exec(code, module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # SystemExit too: a solution that exits when it is imported must not end the run
        raise SolutionError(f"cannot load the solution {solution.what}: {load_error(e)}") from None
    check_offers_make(module, solution.what)
    return module


def load_error(e: BaseException) -> str:
    """What went wrong while a solution was imported, with the lines of its own that led there."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename != __file__ and f.filename[:1] != "<"]
    lines = traceback.format_list(frames) + traceback.format_exception_only(e)
    return f"{type(e).__name__} at import\n" + "".join(lines).rstrip()


def check_offers_make(module: types.ModuleType, what: str) -> None:
    """Raises SolutionError if there is no `Make` in the module."""
    if not callable(getattr(module, "Make", None)):
        names = sorted(name for name, value in vars(module).items() if callable(value) and name[:1] != "_")
        raise SolutionError(
            f"the solution {what} offers no Make(peers, me, persister, applyCh); what {module.__file__} defines: "
            f"{', '.join(names) or 'nothing'}"
        )
