"""A world's own modules: executed afresh for it, and found by its own import statement.

Every module executed here gets a `__builtins__` of the world's, whose `__import__` leads back here. So `import time`
in a function that runs in the middle of a trial finds the world's time, while pytest's threads, whose modules have the
ordinary builtins, import what they always did. What an import finds, in this order:

1. what the world has loaded already, under the name it was given;
2. stand-ins (labsim.standins): threading, time, queue, random and the like; they never enter `sys.modules`;
3. other standard library modules: the real ones;
4. modules on `sys.path` that lie below a `fresh` folder, such as the lab's packages: executed afresh;
5. modules beside a file given to `load`, such as a solution's helpers: executed afresh. (That file itself is one
   module, under the name it was given and under its own; a solution `raft.py` that imports from the lab's package
   `raft` gets the lab's, which comes first.)
6. everything else, such as msgspec or pytest: the real modules. An installed package counts as one even when it lies
   below a fresh folder, as a virtual environment may.

Modules of kinds 4 and 5 stand in `sys.modules` while the world is open, because pickle, dataclasses and typing look
there. When it is closed, those names are as before. A module whose execution fails leaves nothing behind.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from labsim import again
from labsim.stacks import is_library
from labsim.standins import AFRESH, REFUSED, REFUSED_PARTS, THREADS_ONLY, StandIns, twin

if TYPE_CHECKING:
    from labsim.race import Detector

__all__ = ["Importer"]

__tracebackhide__ = True  # for pytest: a failure points at the line that called, not in here

_real_import = builtins.__import__


@functools.cache
def _real_folder(folder: Path) -> str:
    """Its path without links, to begin other paths with; asked of the system once, as every world wants it."""
    return os.path.join(os.path.realpath(folder), "")


class Importer:
    """The modules of one world."""

    def __init__(
        self,
        fresh: Sequence[Path],
        stand_ins: StandIns,
        refuse: Callable[[str], NoReturn],
        detector: Detector | None,
    ) -> None:
        self.modules: dict[str, ModuleType] = {}
        self._fresh = tuple(map(_real_folder, fresh))
        self._twins = {**stand_ins.twins, "importlib": self._importlib}
        self._touches = stand_ins.touches
        self._refuse = refuse
        self._beside: list[str] = []  # folders of files given to load()
        self._given: dict[str | None, str] = {}  # the names that those files were given
        self._shared: set[str] = set()  # names found to be none of ours
        self._before: dict[str, ModuleType | None] = {}  # what sys.modules said, by name, before we changed it
        self._builtins = {**vars(builtins), "__import__": self.import_}
        self._detector = detector
        self._watched_builtins = self._builtins
        if detector is not None:
            self._watched_builtins = {**self._builtins, **detector.helpers()}
        again.begin()

    # -- importing ---------------------------------------------------------------------------------------------------

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The `__import__` of every module of this world."""
        if level:
            name = _absolute(name, globals or {}, level)
        module = self.modules.get(name)
        if module is None:
            top = name.partition(".")[0]
            if name in REFUSED_PARTS or (
                top in REFUSED and not _is_library(globals) and not _only_threads(name, fromlist)
            ):
                self._refuse(f"import {name}")
            if not self._is_ours(top):
                return _real_import(name, globals, locals, fromlist or (), 0)
            module = self.load_dotted(name)
        if not fromlist:
            return module if level else self.modules[name.partition(".")[0]]
        if hasattr(module, "__path__"):
            self._load_submodules(module, fromlist)
        return module

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """importlib.import_module, inside the world."""
        if name.startswith("."):
            name = importlib.util.resolve_name(name, package)
        return self.import_(name, {"__name__": package}, fromlist=("__name__",))

    def _importlib(self) -> ModuleType:
        return twin(importlib, import_module=self.import_module, __import__=self.import_)

    def _is_ours(self, top: str) -> bool:
        if top in self.modules or top in self._twins or top in AFRESH or top == "_queue":
            return True
        if top in sys.stdlib_module_names or top in self._shared:
            return False
        if self._find_top(top) is not None:
            return True
        self._shared.add(top)
        return False

    def load_dotted(self, name: str) -> ModuleType:
        """The module, and before it every package above it."""
        module = self.modules.get(name)
        if module is not None:
            return module
        above, _, last = name.rpartition(".")
        parent = self.load_dotted(above) if above else None
        module = self.modules.get(name) or self._load(name, parent)  # the package may have imported it itself
        if parent is not None:
            setattr(parent, last, module)
        return module

    def _load_submodules(self, package: ModuleType, names: Sequence[str]) -> None:
        """`from package import a, b`, where a or b may be modules that nobody has imported yet."""
        for name in names:
            if name == "*":
                self._load_submodules(package, [n for n in getattr(package, "__all__", ()) if n != "*"])
            elif not hasattr(package, name):
                full = f"{package.__name__}.{name}"
                try:
                    self.load_dotted(full)
                except ModuleNotFoundError as error:
                    if error.name != full:  # then `from` itself says what is missing
                        raise

    # -- finding -----------------------------------------------------------------------------------------------------

    def _load(self, name: str, parent: ModuleType | None) -> ModuleType:
        if name in self._twins:
            self.modules[name] = self._twins[name]()
            return self.modules[name]
        if name in AFRESH:
            return self._execute(name, _find_in_library(name), public=False)
        if name == "_queue":
            raise ModuleNotFoundError("without its twin in C, queue.py uses its own SimpleQueue", name=name)
        if parent is None:
            found = self._find_top(name)
        elif parent.__name__ in self._twins or parent.__name__ in AFRESH:
            return importlib.import_module(name)  # importlib.util, os.path: nothing virtual in them
        elif not hasattr(parent, "__path__"):
            raise ModuleNotFoundError(f"No module named {name!r}; {parent.__name__!r} is not a package", name=name)
        else:
            found = _find(name, tuple(parent.__path__))
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        given = self.modules.get(self._given.get(found.origin, ""))
        if given is not None:
            self.modules[name] = given
            return given
        return self._execute(name, found)

    def _find_top(self, name: str) -> ModuleSpec | None:
        """Where a module that is to be executed afresh lies, or None when it is not one of those."""
        spec = _find(name, tuple(sys.path))
        if spec is not None and self._is_fresh(spec):
            return spec
        for folder in self._beside:
            spec = _find(name, (folder,))
            if spec is not None:
                return spec
        return None

    def _is_fresh(self, spec: ModuleSpec) -> bool:
        if spec.origin is not None and not isinstance(spec.loader, SourceFileLoader):
            return False  # compiled
        places = [spec.origin] if spec.origin is not None else spec.submodule_search_locations or []
        return any(self._lies_in_fresh(_real_path(place)) for place in places)

    def _lies_in_fresh(self, path: str) -> bool:
        return any(
            path.startswith(folder) and "site-packages" not in path[len(folder) :].split(os.sep)
            for folder in self._fresh
        )

    # -- executing ---------------------------------------------------------------------------------------------------

    def load(self, name: str, path: Path, search: Sequence[Path] | None) -> ModuleType:
        """Execute a file as module `name`, whatever its file is called; a package when `search` has its folders."""
        origin = os.path.abspath(path)
        self._given[origin] = name
        if search is None and os.path.dirname(origin) not in self._beside:
            self._beside.append(os.path.dirname(origin))
            self._shared.clear()
        spec = ModuleSpec(name, SourceFileLoader(name, origin), origin=origin, is_package=search is not None)
        spec.has_location = True
        if search is not None:
            spec.submodule_search_locations = [os.path.abspath(folder) for folder in search]
        return self._execute(name, spec)

    def _execute(self, name: str, spec: ModuleSpec, *, public: bool = True) -> ModuleType:
        if spec.origin is not None and not isinstance(spec.loader, SourceFileLoader):
            return importlib.import_module(name)  # compiled, inside a fresh package
        module = _empty_module(spec)
        detector = self._detector
        if not public or spec.origin is None or detector is None or not detector.watches(spec.origin):
            detector = None
        module.__dict__["__builtins__"] = self._watched_builtins if detector is not None else self._builtins
        if detector is not None:
            module.__dict__.update(detector.variables(name))
        self.modules[name] = module
        if public:
            self._before.setdefault(name, sys.modules.get(name))
            sys.modules[name] = module
        try:
            if spec.origin is not None:
                exec(_code(name, spec.origin, detector), module.__dict__)
            touch = self._touches.get(name)
            if touch is not None:
                touch(module)
        except BaseException:
            del self.modules[name]
            if public:
                self._restore(name)
            raise
        return module

    def _restore(self, name: str) -> None:
        before = self._before.pop(name)
        if before is not None:
            sys.modules[name] = before
        else:
            sys.modules.pop(name, None)

    def close(self) -> None:
        """Forget all modules, and leave `sys.modules` as it was found."""
        for name in list(self._before):
            self._restore(name)
        again.end()
        self.modules.clear()


def _empty_module(spec: ModuleSpec) -> ModuleType:
    """What importlib makes of the spec of a source file, or of a folder that is a package without one."""
    module = ModuleType(spec.name)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    if spec.origin is not None:
        module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = list(spec.submodule_search_locations)
        module.__package__ = spec.name
    else:
        module.__package__ = spec.name.rpartition(".")[0]
    return module


def _absolute(name: str, globals: Mapping[str, Any], level: int) -> str:
    package = globals.get("__package__")
    if package is None:
        package = globals["__name__"] if "__path__" in globals else globals["__name__"].rpartition(".")[0]
    if not package:
        raise ImportError("attempted relative import with no known parent package")
    parts = package.rsplit(".", level - 1)
    if len(parts) < level:
        raise ImportError("attempted relative import beyond top-level package")
    return f"{parts[0]}.{name}" if name else str(parts[0])


def _only_threads(name: str, fromlist: Sequence[str] | None) -> bool:
    """Whether an import from a refused package asks only for what is nothing but threads."""
    if name == "multiprocessing":
        return bool(fromlist) and THREADS_ONLY.issuperset(fromlist or ())
    return name in AFRESH


def _is_library(importer: Mapping[str, Any] | None) -> bool:
    """The needs of the library's own files are their own business."""
    return importer is not None and "__file__" in importer and is_library(importer["__file__"])


# What follows is kept for the life of the process: a world costs about a millisecond because files are neither searched
# nor compiled again for each one.

_real_path = functools.lru_cache(maxsize=4096)(os.path.realpath)

_specs: dict[tuple[str, tuple[str, ...]], ModuleSpec] = {}


def _find(name: str, path: tuple[str, ...]) -> ModuleSpec | None:
    spec = _specs.get((name, path))
    if spec is None or (spec.origin is not None and not os.path.exists(spec.origin)):
        spec = PathFinder.find_spec(name, path)
        if spec is not None:
            _specs[name, path] = spec
    return spec


@functools.cache
def _find_in_library(name: str) -> ModuleSpec:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    return spec


_compiled: dict[tuple[str, bool], tuple[tuple[int, int], CodeType]] = {}


def _code(name: str, path: str, detector: Detector | None) -> CodeType:
    """The file's code, from memory when the file has not changed, else from its .pyc or its source."""
    stat = os.stat(path)
    version = stat.st_mtime_ns, stat.st_size
    known = _compiled.get((path, detector is not None))
    if known is not None and known[0] == version:
        return known[1]
    code = detector.code(path) if detector is not None else SourceFileLoader(name, path).get_code(name)
    assert code is not None
    _compiled[path, detector is not None] = version, code
    return code
