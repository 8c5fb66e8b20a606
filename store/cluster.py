"""A Ray cluster to work on: one that runs already, or one of this machine alone.

Ray is an extra (``pip install 'mixed-signals[ray]'``), imported here when a cluster is asked for and not before.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.terminal import note, warn

_PATIENCE = 10  # seconds for a cluster's head to answer
_MISSES = 3  # in a row: after so many the head is lost
PATIENT_TRIES = ("RAY_timeout_ms_task_wait_for_death_info", "5000")
"""A setting of Ray's: how long it waits to hear what became of a worker that does not answer, before that counts as one
of the tries of its task. With Ray's own second, sixteen tries can be over before a lost node is missed."""


@contextmanager
def connected(address: str = "") -> Iterator[None]:
    """Connect to a Ray cluster, and leave it at the end; a connection that is there already is used, and stays.

    Parameters
    ----------
    address : str
        ``host:port`` of the cluster's head. Empty: the cluster that ``RAY_ADDRESS`` names, else the one that
        was started last on this machine (``ray start``) and still runs, else a new one of this machine's cores, which
        ends with the connection. ``auto`` and ``local`` are Ray's own words: no new one, and a new one whatever runs.

    Raises
    ------
    UsageError
        If Ray is not installed, or the address is none, or one of Ray Client (``ray://``).
    MixedSignalsError
        If no cluster answers there, it does not take this process's token, or it cannot be joined from here.
    """
    os.environ.setdefault(*PATIENT_TRIES)
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray: Ray is not installed; pip install 'mixed-signals[ray]'") from error
    named = address or os.environ.get("RAY_ADDRESS", "")
    if "://" in named:
        raise UsageError(
            f"--ray {named}: Ray Client does not carry whole jobs; run the same command on a node of the cluster (ray "
            "job submit does that) with --ray auto, or give the head's host:port"
        )
    if ray.is_initialized():
        yield
        return
    host, _, port = named.rpartition(":")
    if host and port.isdigit():  # Ray itself takes two minutes to find that nobody is there
        try:
            _knock(named)
        except (OSError, OverflowError) as error:
            raise _not_there(named, error) from error
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong comes as an exception as well
    # Of a cluster that we start; one that runs has its own setting.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _raw_log() as said:
        try:
            ray.init(
                address or None, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False
            )
        except ValueError as error:
            raise UsageError(
                f"--ray {named}: {_first_line(error)}; write host:port, auto or local"
            ) from error
        except (ConnectionError, RuntimeError, TimeoutError, OSError, ray.exceptions.RayError) as error:
            if isinstance(error, ray.exceptions.AuthenticationError) or "InvalidAuthToken" in said():
                raise _not_let_in(named) from error
            raise _not_there(named, error) from error
    try:
        with watched(ray.get_runtime_context().gcs_address):
            yield
    finally:
        ray.shutdown()


@contextmanager
def watched(address: str, every: float = 5.0) -> Iterator[None]:
    """Say when a cluster's head is lost: Ray itself waits for it without a word, and then ends the process.

    Parameters
    ----------
    address : str
        ``host:port`` of the head.
    every : float
        Seconds between one look and the next.
    """
    done = threading.Event()

    def look() -> None:
        missed = 0
        while not done.wait(every):
            try:
                _knock(address)
            except OSError as error:
                missed += 1
                if missed == _MISSES:
                    warn(
                        f"the Ray cluster's head at {address} no longer answers ({error.strerror or error}); if it "
                        "stays away Ray ends this command: what was done is kept, run the same command again"
                    )
            else:
                if missed >= _MISSES:
                    note(f"the Ray cluster's head at {address} answers again")
                missed = 0

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


@contextmanager
def _raw_log() -> Iterator[Callable[[], str]]:
    """Keep what Ray's core writes past Python off the terminal; yields a function that returns it."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield lambda: os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def _not_let_in(named: str) -> MixedSignalsError:
    mode = os.environ.get("RAY_AUTH_MODE") or "not set"
    return MixedSignalsError(
        f"--ray{f' {named}' if named else ''}: the Ray cluster asks for a token that this process does not give; set "
        f"RAY_AUTH_MODE=token (it is {mode}): the token is in ~/.ray/auth_token where the cluster was started, or name "
        "a file that has it with RAY_AUTH_TOKEN_PATH"
    )


def _not_there(named: str, error: Exception) -> MixedSignalsError:
    return MixedSignalsError(
        f"--ray{f' {named}' if named else ''}: no Ray cluster answers ({_first_line(error)}); ray status on its "
        "head says whether it runs"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
