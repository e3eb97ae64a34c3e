"""Submissions as they come: each kind of thing is taken, or refused with a reason, and harms nobody."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import os
import socket
import stat
import struct
import sys
import tarfile
import tempfile
import traceback
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labgrade import intake
from labgrade.intake import Limits, Submission, look, parse_name, safe_name, shown, take
from labrun.solution import find, loaded

MAKE = "def Make(peers, me, persister, applyCh):\n    return 1\n"
SMALL = Limits(size=3_000_000, files=50, entries=200, depth=10, source=100_000)


def only(path: Path, limits: Limits = SMALL) -> Submission:
    (submission,) = look([path], limits=limits)
    return submission


def folder(path: Path, files: dict[str, str | bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zipped(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, *members: tarfile.TarInfo, files: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in (files or {}).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
        for member in members:
            archive.addfile(member)
    return path


def copied(submission: Submission, to: Path) -> list[str]:
    """The files of a copy that was taken."""
    taken = take(submission, to, limits=SMALL)
    assert not taken.reason
    assert taken.solution == submission.solution
    return sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if not path.is_dir())


def made(submission: Submission, to: Path) -> object:
    """What Make of the copy returns, loaded as --raft loads it."""
    assert submission.reason == ""
    assert take(submission, to, limits=SMALL).reason == ""
    with loaded(find(submission.solution, to)) as module:
        return module.Make(None, 0, None, None)


# -- what is chosen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["raft.py", "queue.py", "random.py", "my raft (1).py", "-rf.py", "=cmd.py", "RAFT.PY"])
def test_a_python_file_is_the_solution_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path, {name: MAKE}) / name
    submission = only(path)
    assert made(submission, tmp_path / "copy") == 1
    if name == "queue.py":
        assert submission.solution == "queue.py"
    assert sys.modules["random"].__name__ == "random"


@pytest.mark.parametrize(
    ("files", "solution", "how"),
    [
        ({"raft.py": MAKE, "other.py": MAKE}, "sub/raft.py", "raft.py in the folder sub"),
        (
            {"raft/raft.py": MAKE, "labrpc/__init__.py": "", "tests/test_2a.py": "from raft import Make"},
            "sub/raft/raft.py",
            "raft/raft.py in the folder sub (the whole handout)",
        ),
        (
            {"__init__.py": "from .impl import Make", "impl.py": MAKE},
            "sub",
            "__init__.py in the folder sub (a package)",
        ),
        ({"a/b/raft.py": MAKE, "README": "x"}, "sub/a/b/raft.py", "a/b/raft.py in the folder sub"),
        ({"pkg/__init__.py": MAKE}, "sub/pkg", "pkg/__init__.py in the folder sub (a package)"),
        (
            {"mine.py": MAKE, "util.py": "x = 1", "test_it.py": "from mine import Make"},
            "sub/mine.py",
            "mine.py in the folder sub (the only file that offers Make)",
        ),
        (
            {"raft.py": "x = 1", "mine.py": MAKE},
            "sub/mine.py",
            "mine.py in the folder sub (the only file that offers Make)",
        ),
        ({"raft.py": "globals()['Make'] = lambda *a: 1"}, "sub/raft.py", "raft.py in the folder sub"),
        ({"raft.py": "if True:\n    Make = lambda *a: 1"}, "sub/raft.py", "raft.py in the folder sub"),
        (
            {
                "x/a.py": "try:\n    from impl import Make\nexcept ImportError:\n    def Make(*a): return 1",
                "y/b.py": "",
            },
            "sub/x/a.py",
            "x/a.py in the folder sub (the only file that offers Make)",
        ),
        ({"raft.py": "from .impl import *", "impl.py": MAKE}, "sub.raft", "raft.py in the folder sub"),
        ({"raft.py/raft.py": MAKE}, "sub/raft.py/raft.py", "raft.py/raft.py in the folder sub"),
        ({"raft.py": b"\xef\xbb\xbf" + MAKE.encode()}, "sub/raft.py", "raft.py in the folder sub"),
        (
            {"raft.py": b"# coding: latin-1\nname = '\xe9'\n" + MAKE.encode()},
            "sub/raft.py",
            "raft.py in the folder sub",
        ),
    ],
)
def test_the_solution_in_a_folder_is_found_and_loads(
    tmp_path: Path, files: dict[str, str | bytes], solution: str, how: str
) -> None:
    submission = only(folder(tmp_path / "sub", files))
    assert (submission.solution, submission.how, submission.reason) == (solution, how, "")
    assert made(submission, tmp_path / "copy") == 1


def test_a_folder_whose_raft_is_a_link_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(MAKE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/raft.py").symlink_to(tmp_path / "elsewhere.py")
    reason = only(tmp_path / "sub").reason
    assert reason == "the folder sub holds no Python file (left out raft.py: a link): hand in raft.py"


def test_nothing_of_a_submission_runs_while_it_is_looked_at(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    source = f"open({str(touched)!r}, 'w')\n{MAKE}"
    assert not only(folder(tmp_path / "sub", {"__init__.py": source, "conftest.py": source})).reason
    assert not touched.exists()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "the folder sub holds no Python file, as it is empty: hand in raft.py"),
        ({"a.txt": "x"}, "the folder sub holds no Python file (it holds a.txt): hand in raft.py"),
        (
            {"a.py": "a = 1", "b.py": "b = 1", "c.py": "c = 1"},
            "the folder sub holds 3 Python files and none of them offers Make: a.py, b.py, c.py",
        ),
        (
            {"a.py": MAKE, "b.py": MAKE},
            "the folder sub holds 2 files that offer Make (a.py, b.py): hand in one, or call it raft.py",
        ),
        ({"raft.py": "x = 1"}, "the folder sub holds one Python file, raft.py, and it offers no Make"),
        ({"raft.py": ""}, "raft.py in the folder sub is empty: hand in the file with your Raft"),
        ({"raft.py": "def Make(:"}, "raft.py in the folder sub is no Python that this version runs, line 1: *"),
        ({"raft.py": b"\xff\xfem\0"}, "raft.py in the folder sub * Python*"),
        ({"raft.py": b"x = '\xe9'"}, "raft.py in the folder sub is no Python that this version runs, line 1: *utf-8*"),
        ({"raft.py": "(" * 10_000}, "raft.py in the folder sub is no Python *"),
        ({"raft.py": "x" + ".x" * 40_000}, "raft.py in the folder sub cannot be read as Python: *"),
        ({"raft.py": "x" * 200_000}, "raft.py in the folder sub is larger than 0.1 MB, which no Raft is: *"),
        ({"a" * 200: "x", "\x1b[2J\n": "y"}, "the folder sub holds no Python file (it holds \\x1b[2J\\n, aaa*..."),
    ],
)
def test_a_folder_without_a_raft_says_why(tmp_path: Path, files: dict[str, str | bytes], reason: str) -> None:
    submission = only(folder(tmp_path / "sub", files))
    pattern = pytest.LineMatcher([submission.reason])
    pattern.fnmatch_lines([reason.replace("[", "[[]") + ("*" if reason.endswith("...") else "")])
    assert not submission.log


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("raft.py", b"", "raft.py is empty: hand in the file with your Raft"),
        ("raft.py", b"x = 1", "raft.py offers no Make(peers, me, persister, applyCh): see raft/api.py of the lab"),
        ("raft.pdf", b"%PDF", "raft.pdf is neither a Python file nor a folder, a zip or a tar: hand in raft.py"),
        ("raft", b"x", "raft is neither a Python file nor a folder, a zip or a tar: hand in raft.py"),
    ],
)
def test_a_file_that_is_no_raft_says_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert only(tmp_path / name).reason == reason


def test_a_helper_that_python_or_the_lab_hides_is_noted(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"raft.py": f"import queue, helper\n{MAKE}", "queue.py": "", "helper.py": ""}
    notes = only(folder(tmp_path / "sub", files)).notes
    assert notes == ("queue.py beside raft.py is not what `import queue` finds: Python has one, too",)


def test_a_helper_in_the_handouts_raft_that_the_lab_does_not_have_is_noted(tmp_path: Path) -> None:
    source = f"from raft import helper\nfrom raft.api import ApplyMsg\nfrom raft.other import x\n{MAKE}"
    files: dict[str, str | bytes] = {
        "raft/raft.py": source,
        "raft/helper.py": "",
        "raft/other.py": "",
        "raft/api.py": "",
    }
    assert only(folder(tmp_path / "sub", files)).notes == (
        "raft/helper.py is imported as raft.helper, which the lab does not have: `import helper` finds it",
        "raft/other.py is imported as raft.other, which the lab does not have: `import other` finds it",
    )


# -- what is left out, and what cannot be read -----------------------------------------------------------------------


def test_links_devices_and_what_tools_leave_are_not_copied(tmp_path: Path) -> None:
    source = folder(
        tmp_path / "sub",
        {
            "raft.py": MAKE,
            ".git/x.py": "",
            "a/__pycache__/x.pyc": "",
            ".venv/x": "",
            "node_modules/x": "",
            "._raft.py": "",
        },
    )
    (source / "dangling").symlink_to("nowhere")
    (source / "passwd").symlink_to("/etc/passwd")
    (source / "system").symlink_to("/etc")
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(source / "socket"))
    submission = only(source)
    assert sorted(submission.notes) == [
        "left out dangling: a link",
        "left out fifo: a FIFO",
        "left out passwd: a link",
        "left out socket: a socket",
        "left out system: a link",
    ]
    assert copied(submission, tmp_path / "copy") == ["sub/raft.py"]


@pytest.mark.parametrize("target", ["nowhere", "/etc/passwd", "real.py", "/etc"])
def test_a_submission_that_is_a_link_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "real.py").write_text(MAKE)
    (tmp_path / "raft.py").symlink_to(target)
    assert only(tmp_path / "raft.py").reason == (
        "raft.py is a link, and is not followed: hand in the file or folder itself"
    )


def test_a_submission_that_is_a_fifo_or_is_missing_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "raft.py")
    fifo, missing = look([tmp_path / "raft.py", tmp_path / "none.py"])
    assert fifo.reason == "raft.py is a FIFO, and is not followed: hand in the file or folder itself"
    assert missing.reason.startswith("there is no file or folder /")


def test_a_file_that_becomes_a_fifo_after_it_was_listed_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "raft.py")
    with pytest.raises(intake._Refused, match="regular file"):
        intake._opened(tmp_path / "raft.py", "raft.py")


@pytest.mark.parametrize("what", ["raft.py", "closed"])
def test_what_cannot_be_read_is_a_reason(what: str) -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        source = folder(Path(scratch, "sub"), {"raft.py": MAKE, "closed/x": ""})
        (source / what).chmod(0)
        if root:
            os.seteuid(65534)  # root reads everything
        try:
            submission = only(source)
        finally:
            if root:
                os.seteuid(0)
            (source / what).chmod(0o700)
    assert submission.reason.startswith(f"{what} ")
    assert "cannot be read (Permission denied): make it readable" in submission.reason


def test_names_may_be_any_bytes(tmp_path: Path) -> None:
    source = folder(tmp_path / "sub", {"raft.py": MAKE})
    odd = [b"\xff\xfe.py", b"caf\xe9", b"new\nline", b"-rf", b"=cmd", b"con.txt", b"a\\b", b"..."]
    for name in odd:
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(b"x = 1")
    submission = only(source)
    taken = take(submission, tmp_path / "copy")
    assert taken.reason == ""
    assert set(os.listdir(os.fsencode(tmp_path / "copy" / "sub"))) == {b"raft.py", *odd}
    for name in odd[:2]:
        (alone,) = look([os.fsdecode(os.fsencode(source) + b"/" + name)])
        assert alone.reason.isprintable()
        assert alone.name.encode()
        assert "Traceback" not in alone.log


def test_the_limits_are_reasons(tmp_path: Path) -> None:
    big = folder(tmp_path / "big", {"raft.py": MAKE, "data": bytes(3_000_001)})
    assert only(big).reason == "the folder big holds more than 3 MB, at data: hand in the Raft alone"
    many = folder(tmp_path / "many", {f"{n}.txt": "" for n in range(51)})
    assert only(many).reason == "the folder many holds more than 50 files: hand in the Raft alone"
    deep = folder(tmp_path / "deep", {"/".join("d" * 11) + "/raft.py": MAKE})
    assert only(deep).reason == "the folder deep nests folders more than 10 deep: hand in the Raft alone"
    ignored = folder(tmp_path / "ignored", {"raft.py": MAKE, ".git/pack": bytes(3_000_001)})
    assert only(ignored).reason == ""


# -- archives --------------------------------------------------------------------------------------------------------


def test_a_zip_or_tar_gives_the_same_as_its_folder(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"hand/raft.py": "import util\n" + MAKE, "hand/util.py": "x = 1\n"}
    plain = folder(tmp_path / "sub", files)
    archives = [
        zipped(tmp_path / "sub.zip", files),
        zipped(tmp_path / "windows.zip", {"hand\\raft.py": files["hand/raft.py"], "hand\\util.py": "x = 1\n"}),
    ]
    with tarfile.open(tmp_path / "sub.tar", "w") as tar:
        tar.add(plain, arcname=".")
    archives.append(tmp_path / "sub.tar")
    for suffix, compress in (("gz", gzip.compress), ("bz2", bz2.compress)):
        archives.append(tmp_path / f"sub.tar.{suffix}")
        archives[-1].write_bytes(compress((tmp_path / "sub.tar").read_bytes()))
    (tmp_path / "moodle").mkdir()
    archives.append(zipped(tmp_path / "moodle" / "sub.zip", files))
    submissions = look([plain, *archives[:-1], tmp_path / "moodle"])
    assert [s.reason for s in submissions] == [""] * 7
    assert {s.digest for s in submissions} == {submissions[0].digest}
    for number, submission in enumerate(submissions):
        assert submission.solution.endswith("/hand/raft.py")
        assert made(submission, tmp_path / f"copy{number}") == 1


@pytest.mark.parametrize("name", ["../raft.py", "/etc/raft.py", "a/../../raft.py", "..\\raft.py", "C:\\raft.py"])
def test_a_path_that_leads_out_of_an_archive_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "slip.zip", {"raft.py": MAKE, name: MAKE})
    reason = only(path).reason
    assert reason.startswith("the zip slip.zip holds the path ")
    assert "leads out of it" in reason
    (tmp_path / "deep").mkdir()
    take(Submission(path, "slip"), tmp_path / "deep" / "copy")
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "copy"]
    if "\\" not in name:
        assert "leads out of it" in only(tarred(tmp_path / "slip.tar", files={name: MAKE})).reason


def test_links_and_devices_in_archives_are_left_out(tmp_path: Path) -> None:
    def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    tar = only(
        tarred(
            tmp_path / "t.tgz",
            member("out", tarfile.SYMTYPE, "/tmp"),
            member("hard", tarfile.LNKTYPE, "/etc/passwd"),
            member("fifo", tarfile.FIFOTYPE),
            member("disk", tarfile.BLKTYPE),
            files={"raft.py": MAKE},
        )
    )
    assert tar.notes == (
        "left out out: a link",
        "left out hard: a link",
        "left out fifo: a FIFO",
        "left out disk: a device",
    )
    assert copied(tar, tmp_path / "copy") == ["t/raft.py"]
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("raft.py", MAKE)
        link = zipfile.ZipInfo("out")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/tmp")
        archive.writestr("__MACOSX/._raft.py", b"\0\5\x16")
    z = only(tmp_path / "z.zip")
    assert (z.notes, z.reason) == (("left out out: a link",), "")


def test_a_link_and_then_a_file_behind_it_stay_within_the_copy(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    link = tarfile.TarInfo("out")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "victim")
    behind = tarfile.TarInfo("out/raft.py")
    path = tarred(tmp_path / "t.tar", link, behind, files={"raft.py": MAKE})
    assert copied(only(path), tmp_path / "copy") == ["t/out/raft.py", "t/raft.py"]
    assert not list((tmp_path / "victim").iterdir())


def test_bombs_are_refused_before_they_fill_the_disk(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"raft.py": MAKE, "zeros": bytes(2_000_000)})
    assert only(bomb).reason == "the zip bomb.zip unpacks to far more than it is, at zeros: hand in the Raft alone"
    lying = bytearray(bomb.read_bytes())  # says that the member is small
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<L", 10)
    (tmp_path / "lying.zip").write_bytes(lying)
    assert "the zip lying.zip is damaged" in only(tmp_path / "lying.zip").reason
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bytes(100)) + zlib.compress(b""))
    member = tarfile.TarInfo(".git/zeros")  # ignored, but read
    member.size = 40_000_000
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(member.tobuf() + bytes(40_000_000))
    (tmp_path / "bomb.tar.gz").write_bytes(packed.getvalue())
    assert only(tmp_path / "bomb.tar.gz").reason == (
        "the tar bomb.tar.gz unpacks to far more than it is: hand in the Raft alone"
    )


def test_an_archive_of_a_hundred_thousand_entries_is_refused_unread(tmp_path: Path) -> None:
    entry = b"PK\1\2" + bytes(24) + b"\1" + bytes(17) + b"a"
    directory = entry * 65_534
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65_534, 65_534, len(directory), 0, 0)
    (tmp_path / "many.zip").write_bytes(b"PK\3\4" + directory + end)
    assert only(tmp_path / "many.zip").reason == "the zip many.zip holds more than 200 entries: hand in the Raft alone"
    members = tarfile.TarInfo("d/x").tobuf() * 100_000
    (tmp_path / "many.tar.gz").write_bytes(gzip.compress(members, 1))
    assert "the tar many.tar.gz holds " in only(tmp_path / "many.tar.gz").reason


def test_encrypted_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "w.zip", {"raft.py": MAKE * 50, "b.py": "x = 1" * 50}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert only(tmp_path / "cut.zip").reason == (
        "the zip cut.zip is damaged or incomplete (its end is missing): hand it in again"
    )
    (tmp_path / "not.zip").write_bytes(b"hello")
    assert "the zip not.zip is damaged" in only(tmp_path / "not.zip").reason
    wrong = bytearray(whole)
    wrong[60] ^= 255  # in the first member's data
    (tmp_path / "wrong.zip").write_bytes(wrong)
    assert "the zip wrong.zip is damaged" in only(tmp_path / "wrong.zip").reason
    locked = bytearray(whole)
    for magic, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        locked[locked.find(magic) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    assert only(tmp_path / "locked.zip").reason == (
        "the zip locked.zip is encrypted, at raft.py: pack it without a password"
    )
    tar = tarred(tmp_path / "t.tar.gz", files={"raft.py": MAKE, "b.py": os.urandom(9_000).hex()}).read_bytes()
    for cut in (len(tar) // 2, len(tar) - 4):
        (tmp_path / "cut.tar.gz").write_bytes(tar[:cut])
        assert "the tar cut.tar.gz is damaged or incomplete" in only(tmp_path / "cut.tar.gz").reason


def test_a_name_that_stands_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tarred(tmp_path / "t.tar", tarfile.TarInfo("raft.py"), files={"raft.py": MAKE})
    assert only(path).reason == "the tar t.tar holds raft.py twice: pack it again"
    mixed = tarred(tmp_path / "m.tar", tarfile.TarInfo("raft.py/x"), files={"raft.py": MAKE})
    assert only(mixed).reason.startswith("the tar m.tar ")
    assert not only(mixed).log


def test_names_in_archives_that_no_file_can_have_are_a_reason(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"path": "a\0b"}
    nul = only(tarred(tmp_path / "t.tar", info, files={"raft.py": MAKE}))
    assert nul.reason.startswith("the tar t.tar is damaged or incomplete (")
    submission = only(zipped(tmp_path / "z.zip", {"raft.py": MAKE, "x" * 300 + ".py": ""}))
    assert submission.reason.startswith("the zip z.zip cannot be unpacked at xxx")
    assert len(submission.reason) < 300


# -- digests, changes, trouble ---------------------------------------------------------------------------------------


def test_the_digest_depends_on_the_content_and_not_on_the_place(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"raft.py": MAKE, "b/c": "x"})
    two = folder(tmp_path / "elsewhere" / "two", {"b/c": "x", "raft.py": MAKE, ".git/HEAD": "z"})
    moved = folder(tmp_path / "moved", {"raft.py": MAKE, "b/d": "x"})
    other = folder(tmp_path / "other", {"raft.py": MAKE, "b/c": "y"})
    digests = [s.digest for s in look([one, two, moved, other])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    (tmp_path / "raft.py").write_text(MAKE)
    (tmp_path / "doe_123_456_raft-1.py").write_text(MAKE)
    a, b = look([tmp_path / "raft.py", tmp_path / "doe_123_456_raft-1.py"])
    assert a.digest == b.digest


def test_a_submission_that_changes_between_look_and_take_says_so(tmp_path: Path) -> None:
    source = folder(tmp_path / "sub", {"raft.py": MAKE})
    submission = only(source)
    (source / "raft.py").write_text(MAKE + "# better\n")
    assert take(submission, tmp_path / "copy").reason == "sub was changed while it was graded: grade it again"


def test_the_unforeseen_becomes_that_submissions_reason_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text(MAKE)
    parse = intake._Source.of

    def explode(file: Path, limits: Limits, deep: bool = True) -> object:
        if file.name == "b.py":
            raise RuntimeError("lone \ud800 surrogate")
        return parse(file, limits, deep)

    monkeypatch.setattr(intake._Source, "of", explode)
    a, b, c = look([tmp_path / name for name in ("a.py", "b.py", "c.py")])
    assert (a.reason, c.reason) == ("", "")
    assert b.reason == "b.py cannot be looked at (RuntimeError: lone \\ud800 surrogate): its log has the details"
    assert "in explode" in b.log
    assert b.log.encode()


def test_a_full_disk_is_the_graders_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text(MAKE)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(intake._Copy, "_store", full)
    with pytest.raises(OSError, match="No space left") as caught:
        look([tmp_path / "a.py"])
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "full"


def test_a_copy_is_readable_by_others_whatever_the_umask(tmp_path: Path) -> None:
    source = folder(tmp_path / "sub", {"raft.py": MAKE, "a/b": ""})
    before = os.umask(0o077)
    try:
        taken = take(only(source), tmp_path / "copy")
    finally:
        os.umask(before)
    assert taken.reason == ""
    assert [stat.S_IMODE((tmp_path / "copy" / p).stat().st_mode) for p in ("", "sub", "sub/a", "sub/raft.py")] == [
        0o755,
        0o755,
        0o755,
        0o644,
    ]


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("Jane Doe_1234567_assignsubmission_file_raft.py", ("Jane Doe", "1234567", False, "raft.py")),
        ("Jane Doe_1234567_assignsubmission_file_", ("Jane Doe", "1234567", False, "")),
        ("Jane Doe_1234567_assignsubmission_file", ("Jane Doe", "1234567", False, "")),
        ("doejane_123_456_raft.zip", ("doejane", "123", False, "raft.zip")),
        ("doejane_LATE_123_456_my_raft-1.zip", ("doejane", "123", True, "my_raft-1.zip")),
        ("my_raft_1_2.py", ("", "", False, "my_raft_1_2.py")),
    ],
)
def test_names_of_moodle_and_canvas_tell_who_and_when(text: str, parsed: tuple[str, str, bool, str]) -> None:
    assert parse_name(text)[:4] == parsed


def test_a_moodle_or_canvas_file_is_copied_under_the_students_name_for_it(tmp_path: Path) -> None:
    names = ["Jane Doe_12_assignsubmission_file_raft.py", "doe_LATE_123_456_queue.py"]
    moodle, canvas = look([folder(tmp_path, {name: MAKE}) / name for name in names])
    assert (moodle.name, moodle.student, moodle.id, moodle.solution) == ("Jane_Doe_12", "Jane Doe", "12", "raft.py")
    assert (canvas.name, canvas.late, canvas.solution) == ("doe_123", True, "queue.py")


def test_names_are_unique_also_where_case_makes_no_difference(tmp_path: Path) -> None:
    paths = ["a/raft.py", "b/raft.py", "x/Bob.py", "y/bob.py", "x/bob", "z/bob.zip", "index.html", "Index.html"]
    names = [s.name for s in look([tmp_path / path for path in paths], reserved=["index.html", "z-bob"])]
    assert names == ["a-raft", "b-raft", "x-Bob", "y-bob", "x-bob-2", "z-bob-2", *names[6:]]
    assert len({name.casefold() for name in [*names, "index.html", "z-bob"]}) == len(names) + 2


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("con.txt", "_con.txt"),
        ("LPT1", "_LPT1"),
        ("..", "submission"),
        ("-rf", "rf"),
        ("=cmd", "_cmd"),
        ("a/b", "a_b"),
        ("José", "José"),
        ("\udcff", "_"),
        ("", "submission"),
        ("trailing. ", "trailing._"),
    ],
)
def test_a_safe_name_keeps_what_is_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


@settings(deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_every_text_becomes_a_safe_name_and_can_be_shown(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 201
    assert not set(name) & set('/\\:*?"<>|\0 ')
    assert name.isprintable()
    assert name[0] not in "-.=+@"
    assert name[-1] not in ". "
    assert safe_name(name) == name
    assert shown(text).isprintable()
    shown(text).encode()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda b: not set(b) & {0, 47}), max_size=8))
def test_paths_of_any_bytes_get_names_of_their_own_and_nothing_is_raised(names: list[bytes]) -> None:
    found = look([os.fsdecode(b"/nonexistent/" + name) for name in names])
    assert len({s.name.casefold() for s in found}) == len(names)
    assert all(s.reason.isprintable() or s.name == "nonexistent" for s in found if s.reason)
