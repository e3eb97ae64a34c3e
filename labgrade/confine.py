"""What a process does before anything of a submission runs in it. labgrade.sandbox hands it this file's text (`-c`).

So it stands alone: it imports nothing of the project, which such a process may not see, and little of Python, as each
player pays for it. `enter` takes rights away, in an order in which each step still has what it needs: limits, other
user, death with the parent, Landlock (which files it sees), seccomp (which system calls); then it runs `target`.
Whatever cannot be done is raised: a process that is not confined must not go on.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# Of <linux/landlock.h>: rights on files, on folders too, and what a later version of the interface has added
EXECUTE, WRITE, READ, READ_FOLDER = 1, 2, 4, 8
FOLDERS_ONLY = 0b11_1111_1111_1000  # reading, making and removing what lies in them, moving to another
LANDLOCK_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}

# Calls by which a process reaches others, or the kernel's less known parts, on machines that Python runs on.
# (As numbers: there is no other way to name them from Python.)
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
DENIED = {
    "socket": (41, 198),  # with socketpair, which stays, nobody outside is reached
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
X32 = 0x40000000  # the second set of calls of x86_64
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38


def enter(
    target: str,
    arguments: list[str],
    limits: dict[str, int],
    user: tuple[int, int] | None = None,
    parent: int = 0,
    files: tuple[list[str], list[str], list[str]] | None = None,
    calls: bool = False,
) -> None:
    """Confine this process, and run `target` ("module:function") with `sys.argv[1:]` as given.

    `limits` are those of `resource`; `user` is the (uid, gid) to become; with `parent` the process dies with it;
    `files` are those that can be read, listed only, and written; with `calls`, those in DENIED are refused.
    """
    import resource

    for name, value in limits.items():
        which = getattr(resource, name)
        most = resource.getrlimit(which)[1]
        more = (
            value + 1 if name == "RLIMIT_CPU" else value
        )  # who has had his time is told so by SIGXCPU, and then killed
        soft, hard = (n if most == resource.RLIM_INFINITY else min(n, most) for n in (value, more))
        resource.setrlimit(which, (soft, hard))
    if user:
        os.setgroups([])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])
    if parent or files or calls:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)

        def call(what: str, *args: Any) -> int:
            """A call of the C library; numbers go as the kernel takes them, with all their bits."""
            result: int = getattr(libc, what)(*(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
            if result < 0:
                raise OSError(ctypes.get_errno(), f"{what}{args[:1]}: {os.strerror(ctypes.get_errno())}")
            return result

        if parent:
            call("prctl", PR_SET_PDEATHSIG, 9, 0, 0, 0)
            if os.getppid() != parent:  # it has died meanwhile
                os._exit(1)
        if files or calls:
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if files:
            _hide_files(call, *files)
        if calls:
            program = _filter()
            buffer = ctypes.create_string_buffer(program)

            class Program(ctypes.Structure):
                _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

            whole = Program(len(program) // 8, ctypes.addressof(buffer))
            call("prctl", PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0)
    sys.argv = [target, *arguments]
    module, _, function = target.partition(":")
    sys.exit(getattr(__import__(module, fromlist=["_"]), function)())


def _hide_files(call: Any, readable: list[str], listed: list[str], writable: list[str]) -> None:
    """By Landlock: all files but these are out of reach. Raises OSError where the system has no Landlock."""
    import ctypes
    import struct

    version = call("syscall", 444, 0, 0, 1)
    rights = LANDLOCK_RIGHTS.get(version, LANDLOCK_RIGHTS[3])
    attributes = struct.pack("=3Q", rights, 3, 3)  # all files; TCP; signals and abstract sockets of others
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = call("syscall", 444, ctypes.create_string_buffer(attributes[:size]), size, 0)
    for paths, allowed in ((readable, EXECUTE | READ | READ_FOLDER), (listed, READ_FOLDER), (writable, rights)):
        for path in paths:
            try:
                file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:  # not there, or not for this user: then there is nothing to allow
                continue
            mine = allowed if os.path.isdir(path) else allowed & ~FOLDERS_ONLY
            rule = struct.pack("=Qi", mine & rights, file)
            call("syscall", 445, ruleset, 1, ctypes.create_string_buffer(rule), 0)
            os.close(file)
    call("syscall", 446, ruleset, 0)
    os.close(ruleset)


def _filter() -> bytes:
    """The seccomp program (in the instructions of BPF) that refuses what is DENIED with "Operation not permitted"."""
    import struct

    machine = os.uname().machine
    if machine not in AUDIT_ARCH:
        raise OSError(f"no list of system calls for {machine}")
    denied = [numbers[list(AUDIT_ARCH).index(machine)] for numbers in DENIED.values()]
    tests = [(0x35, X32), *((0x15, number) for number in denied)]  # jump if at least, jump if equal
    steps = [(0x20, 0, 0, 4), (0x15, 0, len(tests) + 2, AUDIT_ARCH[machine]), (0x20, 0, 0, 0)]
    steps += [(code, len(tests) - at, 0, value) for at, (code, value) in enumerate(tests)]
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]  # allow; EPERM
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
