"""The system check names what is missing, with the line that mends it, before anything is installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mixed_signals.extract import preflight
from mixed_signals.store.errors import MixedSignalsError

SCRIPT = Path(__file__).parents[2] / "extract/preflight.py"
APT = "apt-get install -y libgl1 libegl1 libgles2"
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="libraries are checked on Linux alone"
)


def bare_python(*arguments):
    """Run the interpreter with the standard library alone: no installed package can be imported."""
    command = [sys.executable, "-I", "-S", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_script_runs_on_the_standard_library_alone():
    result = bare_python(str(SCRIPT))
    problems = preflight.check_system()
    assert result.returncode == (1 if problems else 0)
    assert result.stderr.splitlines() == [f"preflight: {problem}" for problem in problems]
    assert result.stdout == ""


@linux
def test_script_ends_with_one_line_and_exit_code_1_when_a_library_is_missing():
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import preflight\n"
        "preflight.GRAPHICS_LIBRARIES = ('libc.so.6', 'libabsent.so.1')\n"
        "sys.exit(preflight.main())"
    )
    result = bare_python("-c", code)
    assert result.returncode == 1
    assert result.stderr == f"preflight: MediaPipe cannot load libabsent.so.1: {APT}\n"


@linux
def test_missing_library_stops_the_work_with_the_same_line(monkeypatch):
    monkeypatch.setattr(preflight, "GRAPHICS_LIBRARIES", ("libabsent.so.1",))
    with pytest.raises(MixedSignalsError) as caught:
        preflight.require_system()
    assert str(caught.value) in preflight.check_system()
    assert APT in str(caught.value)


@linux
def test_libraries_that_load_are_no_problem(monkeypatch):
    monkeypatch.setattr(preflight, "GRAPHICS_LIBRARIES", ("libc.so.6",))
    preflight.require_system()
    assert not any("MediaPipe" in problem for problem in preflight.check_system())


def test_libraries_are_not_asked_for_elsewhere(monkeypatch):
    monkeypatch.setattr(preflight, "GRAPHICS_LIBRARIES", ("libabsent.so.1",))
    monkeypatch.setattr(sys, "platform", "darwin")
    preflight.require_system()


def test_old_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert any("Python 3.10.13, needed is 3.11" in problem for problem in preflight.check_system())


def test_python_that_cannot_make_environments_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert any(f"apt-get install -y python{version}-venv" in problem for problem in preflight.check_system())


def test_script_parses_under_old_versions_of_python():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
