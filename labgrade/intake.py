"""Submissions as they come: what each is, which file in it is the Raft, and a clean copy of it to run.

`look(paths)` looks at each submission once, before anything runs, and gives a frozen Submission for each, in the order
of the paths. `take(submission, destination)` makes the copy that is run, by the same steps. Nothing of a submission is
ever executed or imported: whether a file offers `Make` is found out by parsing it.

What is taken: a Python file; a folder; a zip or a tar (plain, gz, bz2, xz); a folder that holds nothing but one such
archive, as Moodle's export does. In it, the first of these that offers `Make` is the solution:

1. `raft.py`; 2. `raft/raft.py`, as in the whole handout; 3. `__init__.py`: the folder is a package; 4. the same in the
only folder that holds Python files, if none lies beside it (up to three levels down); 5. the only file anywhere that
defines `Make`, or else the only one that imports it.

`offers Make` is read generously for the first three (the name occurs in the source), as Make can be made in many ways.

What a copy holds: regular files and folders, whatever bytes their names consist of, with no more rights than reading.
What it does not: links, devices, sockets and FIFOs, which are named in the notes; and what tools leave behind
(IGNORED). Nothing outside the submission is read or written: links are never followed, and an archive with an absolute
or upward path is refused. Sizes, counts, depth and the ratio of compression are bounded (Limits), while unpacking.

What cannot be graded has a `reason`: one sentence that says what is wrong, where, and what to do. Whatever else goes
wrong with a submission becomes its reason too, with the traceback in `log`. Raised is only what is the grader's own
trouble: OSError for a full or read-only disk, or too many open files.

A copy keeps the names of its files, `queue.py` and `random.py` included. So the processes that run it must start with
`python -P`, and find it last on their path: then no name of a submission hides a module of Python or of the lab. Where
that hides a helper of the submission's own, a note says so.

The work is linear in the size of a submission, and the memory does not grow with it: files are hashed while they are
copied, in pieces.
"""

from __future__ import annotations

import ast
import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import struct
import sys
import tarfile
import tempfile
import traceback
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, NamedTuple, Protocol, cast

__all__ = ["IGNORED", "Limits", "Name", "Submission", "look", "parse_name", "safe_name", "shown", "take"]

MEGABYTE = 1_000_000
PIECE = 1 << 18  # bytes that are read at once
NOTES = 20  # things of one submission that are named
NAMED = 10  # files that a reason lists
IGNORED = frozenset(  # folders and files that tools leave behind; they are neither copied nor counted
    (
        *(".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", "node_modules", ".idea", ".vscode", "__pycache__"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".DS_Store", "__MACOSX"),
    )
)
LAB = frozenset(("labgob", "labrpc", "raft", "labsim", "labwatch", "labrun", "labgrade", "tests", "conftest"))
RAFT = frozenset(("api", "config", "persister", "raft", "skeleton"))  # the modules of the lab's raft
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)  # by Windows
GRADERS_OWN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}

# "Jane Doe_1234567_assignsubmission_file_raft.py"; the folder of one student has nothing after "file" or "file_"
MOODLE = re.compile(r"(?P<student>.+)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?", re.DOTALL)
# "doejane_LATE_12345_67890_raft.zip": who, the late flag, the user's id, the attachment's id (new for each upload)
CANVAS = re.compile(r"(?P<student>[^_\W]+)(?P<late>_LATE)?_(?P<id>\d{2,})_\d{2,}_(?P<file>.+)", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """How much a submission may be. Without IGNORED, unless it says otherwise."""

    size: int = 50 * MEGABYTE  # bytes, unpacked
    files: int = 5_000
    entries: int = 20_000  # in a folder or an archive, IGNORED included
    depth: int = 40  # of folders
    source: int = MEGABYTE  # bytes of a Python file that is looked into
    ratio: int = 250  # unpacked to packed bytes, above a megabyte: logs compress to a hundredth, bombs to a thousandth


@dataclass(frozen=True)
class Submission:
    """What was handed in as `path`."""

    path: Path
    name: str  # for its results: unique among those looked at together, safe as a folder's name on every system
    student: str = ""  # as Moodle's or Canvas's name of the file says
    id: str = ""  # likewise: digits
    late: bool = False  # likewise; only Canvas says so
    platform: str = ""  # whose name it is: "moodle", "canvas"
    solution: str = ""  # what --raft takes in the folder of the copy: a path such as "random.py", or a dotted module
    how: str = ""  # what was chosen as the solution, and why
    digest: str = ""  # of the names and contents that a copy has; the same wherever it lies, packed or not
    notes: tuple[str, ...] = ()  # what was left out, and what else a person should know
    reason: str = ""  # why it cannot be graded; "" if it can
    log: str = field(default="", repr=False)  # the traceback of something unforeseen


class _Refused(Exception):
    """The reason why a submission cannot be graded."""


# -- the two calls ---------------------------------------------------------------------------------------------------


def look(
    paths: Iterable[str | os.PathLike[str]], *, limits: Limits = Limits(), reserved: Iterable[str] = ()
) -> list[Submission]:
    """Look at each submission, and name it. `reserved` are names of results that none may have ("index.html").

    Raises OSError when there is no room to look at one: archives are unpacked, and folders copied, one at a time.
    """
    named = _named([Path(os.path.abspath(path)) for path in paths], reserved)
    with tempfile.TemporaryDirectory(prefix="labgrade-", ignore_cleanup_errors=True) as scratch:
        looked = []
        for submission in named:
            looked.append(_taken(submission, Path(scratch), limits))
            _empty(scratch)
        return looked


def take(submission: Submission, destination: Path, *, limits: Limits = Limits()) -> Submission:
    """Make the copy that is to be run in the folder `destination`, which must be new or empty.

    The result is the submission again: with a reason if it could not be copied, or is no longer what was looked at.
    Without a reason, a process that starts in `destination` finds the solution as `--raft solution`. Raises OSError as
    the module says.
    """
    taken = _taken(submission, destination, limits, known=bool(submission.digest))
    if not taken.reason and submission.digest not in ("", taken.digest):
        return replace(taken, reason=f"{shown(submission.path.name)} was changed while it was graded: grade it again")
    return taken


def _taken(submission: Submission, to: Path, limits: Limits, known: bool = False) -> Submission:
    """The submission with all that making a copy of it tells. What is known is not chosen again."""
    copy = _Copy(to, limits, submission if known else None)
    try:
        if not to.is_dir():
            _make_folder(to)
        solution, how = copy.take(submission.path)
    except _Refused as e:
        return replace(submission, reason=str(e), notes=copy.noted())
    except Exception as e:
        if isinstance(e, OSError) and e.errno in GRADERS_OWN:
            raise
        what = f"{type(e).__name__}: {shown(str(e))}"
        reason = f"{shown(submission.path.name)} cannot be looked at ({what}): its log has the details"
        return replace(submission, reason=reason, notes=copy.noted(), log=_traceback())
    return replace(submission, solution=solution, how=how, digest=copy.digest(), notes=copy.noted(), reason="")


def _empty(folder: str) -> None:
    """Cheaper than a folder for each submission: most are one file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def _traceback() -> str:
    return traceback.format_exc(limit=20).encode(errors="backslashreplace").decode()[-20_000:]


# -- names -----------------------------------------------------------------------------------------------------------


def shown(text: str, length: int = 100) -> str:
    """A name of a submission as messages show it: printable, in valid Unicode, cut."""
    text = text if len(text) <= length else f"{text[: length - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def safe_name(text: str) -> str:
    """A folder's name that every system takes, no shell or spreadsheet mistakes, and a person recognizes."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(c if c.isalnum() or c in "._-" else "_" for c in text)[:80]
    text = text.encode()[:200].decode(errors="ignore")  # Linux counts bytes: 255 with what is put behind a name
    text = text.lstrip("-.").rstrip(".") or "submission"
    return f"_{text}" if RESERVED.fullmatch(text) else text


class Name(NamedTuple):
    """What a name says as Moodle or Canvas exports it. Any other is the file's own, and says nothing else."""

    student: str
    id: str
    late: bool
    file: str  # the student's own name for it
    platform: str = ""


def parse_name(text: str) -> Name:
    if found := MOODLE.fullmatch(text):
        return Name(found["student"], found["id"], False, found["file"] or "", "moodle")
    if found := CANVAS.fullmatch(text):
        return Name(found["student"], found["id"], bool(found["late"]), found["file"], "canvas")
    return Name("", "", False, text)


def _named(paths: Sequence[Path], reserved: Iterable[str]) -> list[Submission]:
    """Each with a name of its own: the student's, or the file's; with the folder's before it where several have that;
    and with a number behind it where that does not do either."""
    parsed = [parse_name(path.name) for path in paths]
    short = []
    for path, (student, number, _, file, _) in zip(paths, parsed, strict=True):
        own = f"{student}_{number}" if student else file if path.is_dir() else re.sub(r"(\.tar)?\.\w+$", "", file)
        short.append(own or file)
    counts: dict[str, int] = {}
    for name in short:
        counts[safe_name(name).casefold()] = counts.get(safe_name(name).casefold(), 0) + 1
    used = {name.casefold() for name in reserved}
    result = []
    for path, name, (student, number, late, _, platform) in zip(paths, short, parsed, strict=True):
        if counts[safe_name(name).casefold()] > 1 and path.parent.name:
            name = f"{path.parent.name}-{name}"
        base = name = safe_name(name)
        again = 1
        while name.casefold() in used:
            again += 1
            name = f"{base}-{again}"
        used.add(name.casefold())
        result.append(Submission(path, name, _valid(student), number, late, platform))
    return result


def _valid(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


# -- one copy --------------------------------------------------------------------------------------------------------


class _Reader(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Copy:
    """The making of one copy."""

    def __init__(self, to: Path, limits: Limits, known: Submission | None = None) -> None:
        self.to = to
        self.limits = limits
        self.known = known  # what an earlier copy has told
        self.label = "the submission"  # as reasons call what is looked at
        self.files: dict[str, bytes] = {}  # by path below `root`: the digest of each
        self.root = to
        self._size = 0
        self._entries = 0
        self._notes: list[str] = []

    def digest(self) -> str:
        whole = hashlib.sha256()
        for name, digest in sorted(self.files.items()):
            whole.update(os.fsencode(name) + b"\0" + digest)
        return whole.hexdigest()

    def note(self, text: str) -> None:
        self._notes.append(text)

    def noted(self) -> tuple[str, ...]:
        more = len(self._notes) - NOTES
        return (*self._notes[:NOTES], *([f"and {more} more"] if more > 0 else []))

    # -- what it is --

    def take(self, path: Path) -> tuple[str, str]:
        """Copy it; the solution in the copy, and how it was chosen."""
        own = parse_name(path.name).file or path.name  # the name without what Moodle or Canvas put before it
        self.label = shown(own)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            raise _Refused(f"there is no file or folder {shown(str(path))}: look at the path") from None
        if stat.S_ISDIR(mode):
            inner = _only_archive(path)
            if inner is None:
                self.label = f"the folder {shown(own)}"
                self._begin(own)
                self._copy_folder(path)
                return self._choose()
            path, own = inner, parse_name(inner.name).file or inner.name
            self.label = shown(own)
        elif not stat.S_ISREG(mode):
            kind = _kind(mode)
            raise _Refused(f"{shown(own)} is a {kind}, and is not followed: hand in the file or folder itself")
        with _opened(path, self.label) as file:
            archive = _archive(file, own)
            file.seek(0)
            if archive:
                self.label = f"the {archive} {shown(own)}"
                self._begin(re.sub(r"(\.tar)?\.\w+$", "", own))
                self._unpack(file, archive)
                return self._choose()
            return self._take_file(file, own)

    def _begin(self, name: str) -> None:
        """The folder in which the files of a folder or archive come to lie; a package may import itself by its name."""
        fits = name.isascii() and name.isidentifier() and name not in LAB | sys.stdlib_module_names
        self.root = self.to / (name if fits else "submission")
        _make_folder(self.root)

    def _take_file(self, file: IO[bytes], own: str) -> tuple[str, str]:
        stem, dot, suffix = own.rpartition(".")
        if suffix.lower() != "py" or not dot:
            raise _Refused(f"{shown(own)} is neither a Python file nor a folder, a zip or a tar: hand in raft.py")
        safe = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", stem) and len(own) < 100
        name = f"{stem if safe else 'solution'}.py"
        self._store(name, file, self.label)
        if self.known:
            self.files = {"": self.files[name]}
            return self.known.solution, self.known.how
        source = _Source.of(self.to / name, self.limits, deep=False)
        if source.problem:
            raise _Refused(f"{shown(own)} {source.problem}")
        if not source.mentions:
            raise _Refused(f"{shown(own)} offers no Make(peers, me, persister, applyCh): see raft/api.py of the lab")
        self.files = {"": self.files[name]}  # how a single file is called makes no difference
        return name, shown(own)

    # -- copying --

    def _store(self, name: str, file: _Reader, what: str, packed: int = 0) -> None:
        """One file's content, in pieces, into the copy. `packed` are the bytes that the archive has for it."""
        if len(self.files) >= self.limits.files:
            raise _Refused(f"{self.label} holds more than {self.limits.files:,} files: hand in the Raft alone")
        whole = hashlib.sha256()
        size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(self.root / name, flags, 0o600), "wb") as copy:
            os.fchmod(copy.fileno(), 0o644)  # whatever the umask is: the user who runs it may be another
            while piece := file.read(PIECE):
                size += len(piece)
                if self._size + size > self.limits.size:
                    limit = f"{self.limits.size / MEGABYTE:g} MB"
                    raise _Refused(f"{self.label} holds more than {limit}, at {what}: hand in the Raft alone")
                if packed and size > max(packed * self.limits.ratio, MEGABYTE):
                    raise _Refused(f"{self.label} unpacks to far more than it is, at {what}: hand in the Raft alone")
                whole.update(piece)
                copy.write(piece)
        self._size += size
        self.files[name] = whole.digest()

    def _count(self, depth: int) -> None:
        self._entries += 1
        if self._entries > self.limits.entries:
            raise _Refused(f"{self.label} holds more than {self.limits.entries:,} entries: hand in the Raft alone")
        if depth > self.limits.depth:
            raise _Refused(f"{self.label} nests folders more than {self.limits.depth} deep: hand in the Raft alone")

    def _copy_folder(self, top: Path) -> None:
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(top / folder) as entries:
                    for entry in entries:
                        name = f"{folder}{entry.name}"
                        self._count(name.count("/") + 1)
                        mode = entry.stat(follow_symlinks=False).st_mode
                        if _ignored(entry.name):
                            continue
                        if stat.S_ISDIR(mode):
                            _make_folder(self.root / name)
                            folders.append(f"{name}/")
                        elif stat.S_ISREG(mode):
                            with _opened(Path(entry.path), shown(name)) as file:
                                self._store(name, file, shown(name))
                        else:
                            self.note(f"left out {shown(name)}: a {_kind(mode)}")
            except PermissionError as e:
                name = shown(os.path.relpath(os.fsdecode(e.filename or folder), top))
                raise _Refused(f"{name} in {self.label} cannot be read ({e.strerror}): make it readable") from None

    # -- unpacking --

    def _unpack(self, file: IO[bytes], archive: str) -> None:
        unpack: Callable[[IO[bytes]], None] = self._unzip if archive == "zip" else self._untar
        try:
            unpack(file)
        except FileExistsError as e:
            name = shown(os.path.relpath(e.filename, self.root))
            raise _Refused(f"{self.label} holds {name} twice: pack it again") from None
        except OSError as e:  # of the file system; a damaged gzip is one as well
            if e.errno in GRADERS_OWN:
                raise
            where = f" at {shown(os.path.relpath(os.fsdecode(e.filename), self.root))}" if e.filename else ""
            what = e.strerror or shown(str(e))
            raise _Refused(f"{self.label} cannot be unpacked{where} ({what}): pack it again") from None
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError) as e:
            raise _Refused(f"{self.label} is damaged or incomplete ({shown(str(e))}): hand it in again") from None
        except NotImplementedError as e:
            raise _Refused(f"{self.label} is packed in an unusual way ({shown(str(e))}): use ordinary zip") from None

    def _unzip(self, file: IO[bytes]) -> None:
        _look_at_directory(file, self.label, self.limits)
        with zipfile.ZipFile(file) as whole:
            for info in whole.infolist():
                mode = info.external_attr >> 16 if info.create_system == 3 else 0  # 3: made on Unix
                name = self._path(info.filename.replace("\\", "/"))  # as some programs on Windows write them
                if name is None or info.is_dir() or stat.S_ISDIR(mode):
                    continue
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    self.note(f"left out {shown(name)}: a {_kind(mode)}")
                    continue
                if info.flag_bits & 1:
                    raise _Refused(f"{self.label} is encrypted, at {shown(name)}: pack it without a password")
                with whole.open(info) as content:
                    self._store(name, content, shown(name), packed=max(1, info.compress_size))

    def _untar(self, file: IO[bytes]) -> None:
        # What is skipped is read as well, as it may lie in a compressed stream: ten times the limit, and no more.
        stream = _Bounded(_decompressed(file), 10 * self.limits.size, self.label)
        with tarfile.open(mode="r|", fileobj=cast(IO[bytes], stream)) as whole:
            while (info := whole.next()) is not None:
                whole.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                name = self._path(info.name)
                if name is None or info.isdir():
                    continue
                if not info.isreg():
                    mode = {
                        tarfile.FIFOTYPE: stat.S_IFIFO,
                        tarfile.CHRTYPE: stat.S_IFCHR,
                        tarfile.BLKTYPE: stat.S_IFBLK,
                    }
                    self.note(f"left out {shown(name)}: a {_kind(mode.get(info.type, stat.S_IFLNK))}")
                    continue
                content = whole.extractfile(info)
                assert content is not None  # of a regular file
                self._store(name, content, shown(name))
            stream.rest()

    def _path(self, name: str) -> str | None:
        """The path of an archive's member below the root, with its folder made; None for what is ignored."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise _Refused(f"{self.label} holds the path {shown(name)}, which leads out of it: pack the folder again")
        self._count(len(parts))
        if not parts or any(map(_ignored, parts)):
            return None
        path = "/".join(parts)
        for upper in range(1, len(parts)):
            folder = self.root.joinpath(*parts[:upper])
            if not folder.is_dir():
                _make_folder(folder)
        return path

    # -- choosing --

    def _choose(self) -> tuple[str, str]:
        """What --raft takes for the solution among the files of the copy, and how it was chosen."""
        if self.known:
            return self.known.solution, self.known.how
        python = sorted(name for name in self.files if name.endswith(".py"))
        if not python:
            held = [f"it holds {_list(sorted(self.files))}"] if self.files else []
            some = f" ({'; '.join([*held, *self.noted()])})" if held or self._notes else ", as it is empty"
            raise _Refused(f"{self.label} holds no Python file{some}: hand in raft.py")
        sources: dict[str, _Source] = {}

        def source(name: str) -> _Source:
            if name not in sources:
                sources[name] = _Source.of(self.root / name, self.limits)
            return sources[name]

        passed = ""  # a raft.py that was not taken
        top = ""  # the folder in which to look
        for _ in range(4):
            for name in (f"{top}raft.py", f"{top}raft/raft.py", f"{top}__init__.py"):
                if name not in self.files:
                    continue
                if source(name).problem and not name.endswith("__init__.py"):
                    raise _Refused(f"{shown(name)} in {self.label} {source(name).problem}")
                if source(name).mentions:
                    return self._chosen(name, source(name))
                passed = passed or name
            below = {name.removeprefix(top).partition("/")[0] for name in python if name.startswith(top)}
            if len(below) > 1 or f"{top}{min(below)}" in self.files:
                break
            top += f"{min(below)}/"
        candidates = [name for name in python if source(name).defines] or [n for n in python if source(n).binds]
        if len(candidates) > 1:
            candidates = [name for name in candidates if name.endswith("/raft.py")] or candidates
        if len(candidates) == 1:
            return self._chosen(candidates[0], source(candidates[0]), "the only file that offers Make")
        if candidates:
            raise _Refused(
                f"{self.label} holds {len(candidates)} files that offer Make ({_list(candidates)}): hand in one, "
                "or call it raft.py"
            )
        broken = [name for name in python if source(name).problem]
        if broken:
            raise _Refused(f"{shown(broken[0])} in {self.label} {source(broken[0]).problem}")
        if len(python) == 1:
            raise _Refused(f"{self.label} holds one Python file, {shown(python[0])}, and it offers no Make")
        raise _Refused(f"{self.label} holds {len(python)} Python files and none of them offers Make: {_list(python)}")

    def _chosen(self, name: str, source: _Source, how: str = "") -> tuple[str, str]:
        folder, _, file = name.rpartition("/")
        package = file == "__init__.py"
        if not how:
            how = (
                "a package"
                if package
                else "the whole handout"
                if f"{name[:-12]}labrpc/__init__.py" in self.files
                else ""
            )
        how = f"{shown(name)} in {self.label}" + (f" ({how})" if how else "")
        self._note_helpers(name, folder, source)
        if package:
            return f"{self.root.name}/{folder}".rstrip("/"), how
        parts = [self.root.name, *name.removesuffix(".py").split("/")]
        if source.relative and all(part.isascii() and part.isidentifier() for part in parts):
            return ".".join(parts), how  # a module of a package, which `from .other import x` needs
        return f"{self.root.name}/{name}", how

    def _note_helpers(self, name: str, folder: str, source: _Source) -> None:
        """What the solution imports and has beside it, and yet does not get."""
        for module in sorted(source.imports):
            top, _, below = module.partition(".")
            beside = f"{folder}/{top}.py".lstrip("/")
            if module == top and beside in self.files and beside != name and top in LAB | sys.stdlib_module_names:
                whose = "the lab" if top in LAB else "Python"
                self.note(f"{top}.py beside {shown(name)} is not what `import {top}` finds: {whose} has one, too")
            helper = f"{folder}/{below}.py"
            if top == "raft" and below not in RAFT and name.endswith("raft/raft.py") and helper in self.files:
                why = f"which the lab does not have: `import {below}` finds it"
                self.note(f"{shown(helper)} is imported as {shown(module)}, {why}")


# -- Python files ----------------------------------------------------------------------------------------------------


@dataclass
class _Source:
    """What a Python file tells without being run."""

    problem: str = ""  # "is not Python: ..."
    mentions: bool = False  # Make occurs in it, or may come by `import *`
    defines: bool = False  # Make, by def, class or assignment
    binds: bool = False  # defines or imports it
    relative: bool = False  # it has relative imports
    imports: set[str] = field(default_factory=set)  # what its absolute ones name: modules, and perhaps what is in them

    @classmethod
    def of(cls, file: Path, limits: Limits, deep: bool = True) -> _Source:
        """`deep` is to know what it binds and imports; without, whether it is Python, and mentions Make."""
        if file.stat().st_size > limits.source:
            return cls(problem=f"is larger than {limits.source / MEGABYTE:g} MB, which no Raft is: hand in the source")
        code = file.read_bytes()
        if not code.strip():
            return cls(problem="is empty: hand in the file with your Raft") if file.name != "__init__.py" else cls()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a backslash that escapes nothing
                tree = ast.parse(code) if deep else None
                if tree is None:
                    compile(code, file.name, "exec", dont_inherit=True)  # without running it; in two thirds of the time
        except SyntaxError as e:
            line = f", line {e.lineno}" if e.lineno else ""
            return cls(problem=f"is no Python that this version runs{line}: {shown(str(e.msg))}")
        except (ValueError, RecursionError, MemoryError) as e:  # NUL bytes; nested too deep
            return cls(problem=f"cannot be read as Python: {shown(str(e)) or type(e).__name__}")
        found = cls(mentions=b"Make" in code or b"import *" in code)
        for node in _statements(tree) if tree else ():
            found._add(node)
        return found

    def _add(self, node: ast.stmt) -> None:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        elif isinstance(node, ast.ImportFrom):
            bound = [alias.asname or alias.name for alias in node.names]
            self.binds |= "Make" in bound
            self.relative |= node.level > 0
            if node.module and not node.level:
                self.imports |= {node.module, *(f"{node.module}.{name}" for name in bound)}
        elif isinstance(node, ast.Import):
            self.binds |= any(alias.asname == "Make" for alias in node.names)
            self.imports |= {alias.name for alias in node.names}
        if "Make" in names:
            self.defines = self.binds = True


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Those that run when the module is loaded, within `if`, `try` and `with`, too."""
    todo: list[ast.AST] = list(reversed(tree.body))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.ExceptHandler | ast.For | ast.While):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]


# -- files -----------------------------------------------------------------------------------------------------------


def _opened(path: Path, what: str) -> IO[bytes]:
    """A regular file, also if something else has taken its place by now: no link is followed, no FIFO waited for."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as e:
        if e.errno in GRADERS_OWN:
            raise
        raise _Refused(f"{what} cannot be read ({e.strerror}): make it readable, or hand it in again") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _Refused(f"{what} is no regular file any more: grade it again")
    return open(number, "rb")


def _make_folder(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask is


def _only_archive(folder: Path) -> Path | None:
    """The archive that is all that a folder holds."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found: list[os.DirEntry[str]] = []
        for entry in entries:
            if not _ignored(entry.name):
                found.append(entry)
            if len(found) > 1:
                return None
        if found and found[0].is_file(follow_symlinks=False) and not found[0].name.lower().endswith(".py"):
            with _opened(Path(found[0].path), "") as file:
                return Path(found[0].path) if _archive(file, found[0].name) else None
    return None


def _ignored(name: str) -> bool:
    return name in IGNORED or name.startswith("._")  # what macOS puts beside each file


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "link", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _list(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(map(shown, names[:NAMED])) + (f" and {more} more" if more > 0 else "")


# -- archives --------------------------------------------------------------------------------------------------------

MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}  # how compressed files begin


def _archive(file: IO[bytes], name: str) -> str:
    """ "zip", "tar", or "" for a file that is neither, by its first bytes; and by its name, if it is damaged."""
    head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[257:262] == b"ustar" or any(map(head.startswith, MAGIC)):
        return "tar"
    suffix = name.lower().rpartition(".")[2]
    return "zip" if suffix == "zip" else "tar" if suffix in ("tar", "tgz", "gz", "bz2", "tbz2", "xz", "txz") else ""


def _look_at_directory(file: IO[bytes], label: str, limits: Limits) -> None:
    """Refuse a zip whose directory is huge before zipfile reads all of it into memory."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - 65_557))  # its last record is at most that long
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("its end is missing")
    count, size = struct.unpack_from("<HL", tail, at + 10)
    if count > limits.entries or size > limits.entries * 200:  # bytes of an entry with its name
        raise _Refused(f"{label} holds more than {limits.entries:,} entries: hand in the Raft alone")


def _decompressed(file: IO[bytes]) -> _Reader:
    head = file.read(6)
    file.seek(0)
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")
    if kind == "gz":
        return gzip.GzipFile(fileobj=file)
    return bz2.BZ2File(file) if kind == "bz2" else lzma.LZMAFile(file) if kind == "xz" else file


class _Bounded:
    """A stream that refuses to go on after so many bytes, as what a few compressed bytes stand for has no end."""

    def __init__(self, stream: _Reader, limit: int, label: str) -> None:
        self._stream = stream
        self._left = limit
        self._label = label

    def read(self, size: int = PIECE, /) -> bytes:
        piece = self._stream.read(min(size, self._left + 1))
        self._left -= len(piece)
        if self._left < 0:
            raise _Refused(f"{self._label} unpacks to far more than it is: hand in the Raft alone")
        return piece

    def rest(self) -> None:
        """Read to the end, where a compressed stream has its checksum."""
        while self.read(PIECE):
            pass
