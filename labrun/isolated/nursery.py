"""A process that has imported what every player needs, and becomes one by forking: 5 ms instead of 50.

It runs no line of any submission, so that a player inherits nothing from another. Its stdin is the connection to the
judge, which sends commands (a number, the command, a process number) and gets answers (the same number, whether the
process has ended, its exit status or minus the signal that ended it):

    start    with two open files, the stdin and the output of the new player; the answer is its number
    poll     has it ended?
    end      kill it, and the processes that it has started, and wait for its end

It ends when the connection does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import struct
from typing import NoReturn

from labrun.isolated import player

COMMAND = struct.Struct("!qcq")
ANSWER = struct.Struct("!q?q")
START, POLL, END = b"s", b"p", b"e"


def main() -> NoReturn:
    judge = socket.socket(fileno=0)
    gc.collect()
    gc.freeze()  # so that a player's collector does not copy what is shared
    while True:
        data, files, _, _ = socket.recv_fds(judge, COMMAND.size, 2)
        if not data:
            os._exit(0)
        number, command, pid = COMMAND.unpack(data)
        ended, status = False, 0
        if command == START:
            pid = os.fork()
            if pid == 0:
                _become_player(*files)
            for file in files:
                os.close(file)
            status = pid
        else:
            if command == END:
                for kill in (os.kill, os.killpg):  # it may not have a group yet
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        kill(pid, signal.SIGKILL)
            found, how = os.waitpid(pid, 0 if command == END else os.WNOHANG)
            if found:
                ended, status = True, os.waitstatus_to_exitcode(how)
        judge.sendall(ANSWER.pack(number, ended, status))


def _become_player(stdin: int, output: int) -> NoReturn:
    os.setsid()  # a group of its own, so that it can be killed together with what it has started
    os.dup2(stdin, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(stdin)
    os.close(output)
    player.main()
