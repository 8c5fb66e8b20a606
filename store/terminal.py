"""What every command shares: one-line errors with exit codes, ``--debug``, list-valued flags, progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.errors import MixedSignalsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


class _Debug:
    on = False


def _switch_debug(value: bool) -> bool:
    _Debug.on = _Debug.on or value
    return value


Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_switch_debug)
]


def make_app(**options: object) -> typer.Typer:
    """Return a typer application with the settings that all commands share."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,  # type: ignore[arg-type]
    )


def run_app(app: typer.Typer) -> None:
    """Run a command line; our own errors become one line on standard error and an exit code of 1 or 2."""
    try:
        app()
    except MixedSignalsError as error:
        if _Debug.on:
            raise
        stderr().print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a file without permission: the system names the file
        if _Debug.on:
            raise
        stderr().print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        wrong_call = isinstance(error, (NotADirectoryError, IsADirectoryError, FileExistsError))
        sys.exit(2 if wrong_call else 1)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def stdout() -> Console:
    """Return a console on standard output (tables, results)."""
    from rich.console import Console

    return Console()


def stderr() -> Console:
    """Return a console on standard error (progress, warnings, errors)."""
    from rich.console import Console

    return Console(stderr=True)


def split_values(values: Iterable[str] | None) -> list[str]:
    """Return the values of a flag that takes commas or repetition, in order, without repeats.

    Examples
    --------
    >>> split_values(["a,b", "c", "a"])
    ['a', 'b', 'c']
    """
    parts = (part.strip() for value in values or () for part in value.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def split_pairs(values: Iterable[str] | None, flag: str) -> Mapping[str, str]:
    """Return ``{key: value}`` of a flag such as ``--features text=minilm,audio=egemaps``.

    Raises
    ------
    UsageError
        If a part has no ``=``, or a key comes twice.
    """
    pairs: dict[str, str] = {}
    for part in split_values(values):
        key, equals, value = part.partition("=")
        if not (equals and key and value):
            raise UsageError(f"{flag}: expected KEY=VALUE, got {part!r}")
        if key in pairs:
            raise UsageError(f"{flag}: {key!r} is given twice ({pairs[key]!r} and {value!r})")
        pairs[key] = value
    return pairs


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Turn Ctrl-C into an error of one line that says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise MixedSignalsError(f"interrupted; {kept}") from None


def describe_gap(status: str, reason: str, ids: list[str]) -> str:
    """Return one line about the rows that share a status and reason: how many, why, and up to three of them."""
    shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"{len(ids):,} {status.lower()}{f': {reason}' if reason else ''} ({shown})"


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show that something is going on whose length is not known."""
    with stderr().status(_escape(description)):
        yield


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and remaining time on standard error; yields ``advance(n)``."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Rate(TextColumn):
        def render(self, task):  # type: ignore[no-untyped-def]
            from rich.text import Text

            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Rate(""),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = stderr()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n: bar.advance(task, n)
    if not console.is_terminal and total:
        console.print(f"{description}: {total} done", highlight=False)
