"""Processes that a test starts beside its own, and waiting for what they do."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager


def python_path():
    """Return the PYTHONPATH with which a process imports what this one can, the tests' own modules too."""
    return os.pathsep.join(filter(None, sys.path))


def environment(**more):
    """Return the environment of a process that imports what this one can."""
    return {**os.environ, "PYTHONPATH": python_path(), **more}


@contextmanager
def started(code, *words, **more):
    """Yield a process that does a piece of Python and keeps what it says to stderr; it ends with the block."""
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**more)) as process:
        try:
            yield process
        finally:
            process.kill()


def until(there, seconds, *, alive=None):
    """Return what is there, once it is; fail when it does not come in time, or the process that is named has ended."""
    end = time.monotonic() + seconds
    while not (found := there()):
        assert_alive(alive)
        assert time.monotonic() < end, "did not come"
        time.sleep(0.02)
    assert_alive(alive)
    return found


def assert_alive(process):
    assert process is None or process.poll() is None, process.stderr.read()
