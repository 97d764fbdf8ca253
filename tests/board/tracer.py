"""Ends a program at one of its system calls, as a power cut would, by ptrace(2); nothing in the program knows of it."""

import ctypes
import os
import signal
from collections.abc import Sequence
from pathlib import Path

_TRACEME, _SYSCALL, _SETOPTIONS, _KILL_WITH_TRACER = 0, 24, 0x4200, 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def run_until(words: Sequence[str | Path], stop: int | None, stdin: bytes = b"") -> tuple[int, int]:
    """Runs a program and kills it at a stop, counted from 0: each system call has two, one before and one after it.

    Returns:
        The exit status, or -9 where it was killed, and the number of stops up to its end.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(reading, 0)
            os.close(writing)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            _libc.ptrace(_TRACEME, 0, None, None)
            os.execv(words[0], [os.fspath(word) for word in words])
        finally:
            os._exit(127)
    os.close(reading)
    # What a test gives fits into a pipe, so that this does not wait for the program.
    os.write(writing, stdin)
    os.close(writing)
    stops, passed_on, first = 0, 0, True
    while True:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status), stops
        if os.WIFSIGNALED(status):
            return -os.WTERMSIG(status), stops
        if first:
            _libc.ptrace(_SETOPTIONS, child, None, _KILL_WITH_TRACER)
            first = False
        elif os.WSTOPSIG(status) == signal.SIGTRAP:
            if stops == stop:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return -signal.SIGKILL, stops
            stops += 1
        else:
            passed_on = os.WSTOPSIG(status)
        _libc.ptrace(_SYSCALL, child, None, passed_on)
        passed_on = 0
