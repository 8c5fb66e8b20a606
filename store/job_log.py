"""What the jobs that filled a feature set said of themselves: a line of JSON each, in a block of fixed room.

The log is told, never counted on: it belongs to no fingerprint and to no checksum, and what is not readable in it (a
process was killed while it wrote, a file came from elsewhere) is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixed_signals.store.files import plain
from mixed_signals.store.layout import LOG_BYTES


def read_jobs(block: np.ndarray) -> list[dict[str, Any]]:
    """Return the jobs of a log, newest last.

    Parameters
    ----------
    block : ndarray of uint8, shape (LOG_BYTES,)
    """
    jobs = []
    for line in _lines(block):
        try:
            job = plain(json.loads(line.decode()))
        except (ValueError, RecursionError):
            continue
        if isinstance(job, dict):
            jobs.append(job)
    return jobs


def with_jobs(block: np.ndarray, jobs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the log with further jobs, shape (LOG_BYTES,), uint8; the oldest go where there is no room for all.

    Raises
    ------
    ValueError
        If one of them alone does not fit, or is not what JSON can hold.
    """
    new = [json.dumps(plain(dict(job)), allow_nan=False).encode() for job in jobs]
    if any(len(line) >= LOG_BYTES for line in new):
        raise ValueError(f"what a job says of itself takes more than {LOG_BYTES:,} bytes")
    text = b""
    for line in reversed([*_lines(block), *new]):
        if len(line) + 1 + len(text) > LOG_BYTES:
            break
        text = line + b"\n" + text
    return np.frombuffer(text.ljust(LOG_BYTES, b"\0"), np.uint8)


def _lines(block: np.ndarray) -> list[bytes]:
    return [line for line in block.tobytes().rstrip(b"\0").split(b"\n") if line]
