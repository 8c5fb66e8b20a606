"""Scripts on a disk that is full for every file from some size on."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

from other_processes import environment


def limited(script, size, *words):
    """Run a script with these arguments under a limit on the size of files, in bytes, as a full disk would set it."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return subprocess.run(
        [sys.executable, "-c", script, *words],
        preexec_fn=limit,
        env=environment(),
        capture_output=True,
        text=True,
    )
