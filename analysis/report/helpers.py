"""Child processes that look into recordings and cut clips: one that crashes or hangs costs one recording.

A child is this module run by the same Python. It reads jobs from its standard input, a line of JSON each, and answers
likewise; it ends when its parent does.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Self

from mixed_signals.store.errors import MixedSignalsError

LONGEST = {"probe": 60.0, "cut": 1800.0}
"""Seconds that one job may take."""

Job = dict[str, Any]
Answer = dict[str, Any]


def probing(path: Path) -> Job:
    """Return the job to tell what a recording is; the answer has ``kind`` and ``type``, or ``why``."""
    return {"probe": str(path)}


def cutting(path: Path, start: float | None, end: float | None, stem: Path) -> Job:
    """Return the job to cut a clip; the answer has ``file``, the clip's name, or ``why``."""
    return {"cut": str(path), "start": start or 0.0, "end": end, "stem": str(stem)}


class Helpers:
    """Child processes that do jobs, begun when they are needed. To be used in a ``with`` block, from any thread.

    Parameters
    ----------
    n : int, optional
        How many, at most; as many as there are processors by default.
    """

    def __init__(self, n: int | None = None) -> None:
        import joblib

        self.n = n or joblib.cpu_count()
        self._closed = False
        self._idle = queue.SimpleQueue[_Child]()
        self._children = [_Child() for _ in range(self.n)]
        for child in self._children:
            self._idle.put(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children, whatever they are at; jobs that come later are not done."""
        self._closed = True
        for child in self._children:
            child.end()

    def ask(self, job: Job) -> Answer:
        """Have a job done, and wait for the answer.

        Raises
        ------
        MixedSignalsError
            If the disk is full, or no child process can be begun.
        """
        child = self._idle.get()
        try:
            answer = {"why": "stopped"} if self._closed else child.ask(job)
        finally:
            self._idle.put(child)
        if "stop" in answer:
            raise MixedSignalsError(answer["stop"])
        return answer

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        """Yield (number of the job, its answer) as they come."""
        with ThreadPoolExecutor(self.n) as threads:
            waiting = {threads.submit(self.ask, job): number for number, job in enumerate(jobs)}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                self.close()
                threads.shutdown(cancel_futures=True)
                raise


class _Child:
    """One child process; begun again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lasts as long as the child

    def ask(self, job: Job) -> Answer:
        process = self._process = self._process or self._begun()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        longest = LONGEST["probe" if "probe" in job else "cut"]
        watch = threading.Timer(longest, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:  # it is no more
            answer = ""
        in_time = watch.is_alive()
        watch.cancel()
        if answer:
            return dict(json.loads(answer))
        code = process.wait()
        self._process = None
        return {
            "why": f"its decoder crashed, exit code {code}" if in_time else f"not done within {longest:g} s"
        }

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _begun(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is its parent's to handle
        )
        if process.stdout is not None and process.stdout.readline():
            return process
        process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise MixedSignalsError(f"the process that reads recordings did not begin: {lines[-1]}")


def _serve() -> None:
    """Do jobs until there are no more."""
    import av

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native code prints is no answer
    av.logging.set_level(av.logging.PANIC)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_do(json.loads(line))), file=answers, flush=True)


def _do(job: Job) -> Answer:
    from mixed_signals.analysis.report.clips import cut
    from mixed_signals.analysis.report.recordings import Unreadable, probe

    try:
        if "probe" in job:
            return probe(Path(job["probe"]))._asdict()
        return {"file": cut(Path(job["cut"]), job["start"], job["end"], Path(job["stem"])).name}
    except Unreadable as error:
        return {"why": str(error)}
    except OSError as error:
        return {"stop": f"{Path(job['stem']).parent}: {error.strerror}"}
    except Exception as error:
        return {"why": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    _serve()
