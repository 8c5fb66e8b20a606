"""The wheel holds the four folders as mixed_signals.*, whole, and nothing else; the floors hold."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("extract", "store", "models", "analysis")
ENDINGS = (".py", ".pyi", ".html", ".css", ".js", ".ipynb")


def shipped():
    return {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in ENDINGS or path.name == "py.typed"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that no build folder appears in the tree
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *shipped()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_installs_mixed_signals_whole_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {f"mixed_signals/{name}" for name in shipped()}


def test_the_installed_wheel_imports_without_this_tree(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import mixed_signals.store, mixed_signals.extract, mixed_signals.models, mixed_signals.analysis.app\n"
        "from mixed_signals.store import Store\n"
        "from importlib.resources import files\n"
        "assert (files('mixed_signals.analysis.report') / 'page.html').is_file()\n"
        "print(mixed_signals.store.__file__)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
    )
    assert ran.returncode == 0, ran.stderr
    assert str(site) in ran.stdout


ABOVE = {
    "tests/benchmarks": set(),
    "store": {"extract", "models", "analysis"},
    "extract": {"models", "analysis"},
    "models": {"extract", "analysis"},
    "analysis": {"extract"},
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", [*FOLDERS, "tests/benchmarks"])
def test_nothing_imports_up_the_floors_or_from_a_command_line(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != "mixed_signals" or len(parts) < 2:
                continue
            assert parts[1] not in ABOVE[folder], f"{path} imports {name}"
            assert not parts[-1].endswith("cli"), f"{path} imports {name}"
            assert "app" not in parts, f"{path} imports {name}"


def test_the_readme_names_only_flags_that_exist():
    """Every --flag in a command of the README's shell blocks is one of that command's."""
    from importlib import import_module

    from typer.main import get_command

    from mixed_signals.analysis.app import _OWN_NAMES, COMMANDS

    own = {typed: name for name, typed in _OWN_NAMES.items()}
    text = (ROOT / "README.md").read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.S)).replace("\\\n", " ")
    lines = [line.removeprefix("$ ") for line in blocks.splitlines() if line.startswith("$ ")]
    checked = 0
    for line in lines:
        words = line.split("unshare --map-root-user --net ")[-1].split()
        name = own.get(words[0]) or (words[1] if words[0] == "mixed-signals" else None)
        if name is None:
            continue
        command = get_command(import_module(COMMANDS[name]).app)
        if hasattr(command, "commands"):
            command = command.commands[words[2]]
        known = {
            flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        flags = {word for word in words if word.startswith("--")}
        assert flags <= known, line
        checked += len(flags)
    assert checked > 15


def test_every_public_name_is_there_whatever_was_imported_before():
    code = (
        "import importlib, pkgutil, types\n"
        f"for folder in {FOLDERS}:\n"
        "    package = importlib.import_module(f'mixed_signals.{folder}')\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "    assert package.__all__\n"
        "    for name in package.__all__:\n"
        "        assert not isinstance(getattr(package, name), types.ModuleType), name\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "_tree")}
    )
