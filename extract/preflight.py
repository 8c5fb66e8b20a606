"""What the system must bring before anything is installed: Python, its venv module, graphics libraries.

It uses the standard library alone and parses under old versions of Python, so that
``python3 extract/preflight.py`` can say what is missing in one line each, on any machine, before any work.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys

GRAPHICS_LIBRARIES = ("libGL.so.1", "libEGL.so.1", "libGLESv2.so.2")
GRAPHICS_INSTALL = "apt-get install -y libgl1 libegl1 libgles2"


def check_system() -> list[str]:
    """Return what is missing to set up and run this software, one line each with its mend; empty if nothing."""
    return [*(_check_python() or _check_venv()), *_check_graphics()]


def require_system() -> None:
    """Raise an error now if the system lacks what reading faces from video needs.

    Raises
    ------
    MixedSignalsError
        If a graphics library that MediaPipe links against cannot be loaded.
    """
    problems = _check_graphics()
    if problems:
        from mixed_signals.store.errors import MixedSignalsError

        raise MixedSignalsError(problems[0])


def _check_python() -> list[str]:
    if sys.version_info >= (3, 11):  # noqa: UP036 (this runs before any requirement is enforced)
        return []
    found = ".".join(str(part) for part in sys.version_info[:3])
    return [f"{sys.executable} is Python {found}, needed is 3.11 or later: run 'make PYTHON=python3.11'"]


def _check_venv() -> list[str]:
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return []
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    return [f"{sys.executable} cannot make virtual environments: apt-get install -y {package}"]


def _check_graphics() -> list[str]:
    if not sys.platform.startswith("linux"):
        return []
    missing = [name for name in GRAPHICS_LIBRARIES if not _loads(name)]
    if not missing:
        return []
    return [f"MediaPipe cannot load {', '.join(missing)}: {GRAPHICS_INSTALL}"]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main() -> int:
    """Print what is missing on standard error; return the exit code."""
    problems = check_system()
    for problem in problems:
        print(f"preflight: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
