"""What every command shares: one-line errors with exit codes, ``--debug``, list-valued flags, progress bars."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from mixed_signals.store.errors import MixedSignalsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


# Control characters but tab and line feed, what turns the direction of writing, and halves of characters.
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_TELL_AGAIN = 30  # seconds between lines of progress where there is no terminal


class _Debug:
    on = False


def _switch_debug(value: bool) -> bool:
    _Debug.on = _Debug.on or value
    return value


Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_switch_debug)
]

_ADDRESS = re.compile(r"auto|local|\S+://\S*|[^\s/]+:\d+")

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: host:port of its head; without one, $RAY_ADDRESS, one running on this machine, or "
        "one started for it.",
    ),
]


class WithRay(TyperCommand):
    """A command with the option `Ray`, whose value may be left out: ``--ray`` alone is an empty address.

    The word after it is its value if it looks like an address, so that ``--ray my.store`` names a store.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write ``--ray`` as ``--ray=`` before the words are read: no parser below takes a value or none."""
        words = list(args)
        for at, word in enumerate(words):
            if word == "--":
                break
            if word == "--ray" and not (at + 1 < len(words) and _ADDRESS.fullmatch(words[at + 1])):
                words[at] = "--ray="
        return super().parse_args(ctx, words)


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
    _Debug.on = False
    try:
        app()
    except MixedSignalsError as error:
        _end(str(error), error.exit_code)
    except OSError as error:  # a full disk, a file without permission: the system names the file
        wrong_call = isinstance(error, (NotADirectoryError, IsADirectoryError, FileExistsError))
        _end(str(error), 2 if wrong_call else 1)
    except MemoryError as error:
        _end(f"not enough memory ({error})" if str(error) else "not enough memory", 1)


def _end(said: str, exit_code: int) -> NoReturn:
    if _Debug.on:
        raise
    from rich.text import Text

    stderr().print(Text.assemble(("error:", "bold red"), " ", said), soft_wrap=True)
    sys.exit(exit_code)


def fit_to_show(text: str) -> str:
    r"""Return text with a mark for each character that would command the terminal, or that is half of one.

    Examples
    --------
    >>> fit_to_show("u1\x1b[2J") == "u1\ufffd[2J"
    True
    """
    return _NOT_SHOWN.sub("\ufffd", text)


def stdout() -> Console:
    """Return a console on standard output (tables, results)."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return a console on standard error (progress, warnings, errors)."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    """Return a console on which the texts of a store, which may come from anyone, do nothing but stand there."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable, options=None):  # type: ignore[no-untyped-def]
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else fit_to_show(text), style, control)

    return Plain(stderr=stderr, markup=False, emoji=False, highlight=False)


def note(said: str) -> None:
    """Print a line on standard error that says what to bear in mind."""
    warn(f"note: {said}")


def warn(said: str) -> None:
    """Print a line on standard error that says what is not as it should be."""
    stderr().print(said, style="yellow", soft_wrap=True)


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


def read_size(size: str, flag: str) -> int:
    """Return the bytes of a size such as 500M or 4G.

    Raises
    ------
    UsageError
        If it is no size, or less than 64M.

    Examples
    --------
    >>> read_size("1.5G", "--memory")
    1610612736
    """
    number, unit = size[:-1], size[-1:].lower()
    if unit.isdigit():
        number, unit = size, ""
    try:
        found = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{flag} {size!r}: write e.g. 500M or 4G") from None
    if found < 2**26:
        raise UsageError(f"{flag} {size!r}: at least 64M")
    return found


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Turn Ctrl-C into an error of one line that says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise MixedSignalsError(f"interrupted; {kept}") from None


def counted(n: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "error"), counted(2, "error")
    ('1 error', '2 errors')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def describe_ids(ids: Sequence[str]) -> str:
    """Return how many there are, and up to three of them."""
    return f"{len(ids):,} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"


def describe_gap(status: str, reason: str, ids: list[str]) -> str:
    """Return one line about the rows that share a status and reason: how many, why, and up to three of them."""
    count, _, shown = describe_ids(ids).partition(" ")
    return f"{count} {status.lower()}{f': {reason}' if reason else ''} {shown}"


@contextmanager
def working(description: str) -> Iterator[Callable[[str], None]]:
    """Show that something is going on whose length is not known; yields what says that it is something else now."""
    from rich.text import Text

    with stderr().status(Text(description)) as status:
        yield lambda now: status.update(Text(now))


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
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Rate(""),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = stderr()
    with Progress(*columns, console=console, disable=not (console.is_terminal and total)) as bar:
        task = bar.add_task(description, total=total)
        told = time.monotonic()

        def advance(n: int) -> None:
            nonlocal told
            bar.advance(task, n)
            if not console.is_terminal and time.monotonic() - told > _TELL_AGAIN:
                told = time.monotonic()
                console.print(f"{description}: {bar.tasks[task].completed:.0f} of {total}")

        yield advance
    if not console.is_terminal and total:
        console.print(f"{description}: {total} done")
