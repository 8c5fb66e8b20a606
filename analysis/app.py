"""``mixed-signals``: every command under one roof, and the demo that chains them.

Command modules are loaded by name, when they are asked for.
"""

from __future__ import annotations

import shlex
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import Debug, interruptible, make_app, progress, run_app, stdout

# Sub-command -> module that holds its typer application.
COMMANDS = {
    "corpus": "mixed_signals.store.corpus_cli",
    "store": "mixed_signals.store.cli",
    "weights": "mixed_signals.extract.weights_cli",
    "extract": "mixed_signals.extract.cli",
    "finetune": "mixed_signals.extract.finetune.cli",
    "fit": "mixed_signals.models.cli",
    "predict": "mixed_signals.models.predict_cli",
    "analyze": "mixed_signals.analysis.cli",
    "explore": "mixed_signals.analysis.explore_cli",
}
# What each synonym is called on its own.
_OWN_NAMES = {
    "extract": "extract-features",
    "finetune": "finetune-encoders",
    "fit": "fit-heads",
    "analyze": "analyze-disagreement",
}


class _ByName(TyperGroup):
    """A group whose commands are found by name, so that only the one in use is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(import_module(COMMANDS[cmd_name]).app)
        command.name = cmd_name
        return command


app = make_app(cls=_ByName, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("mixed-signals"))
        raise typer.Exit


@app.callback()
def mixed_signals(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Feature store, heads and disagreement analysis for multimodal empathy and emotion research."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where corpus and store go.")] = Path(
        "demo"
    ),
    utterances: Annotated[int, typer.Option(min=48, help="Utterances to make.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same corpus.")] = 0,
    debug: Debug = False,
) -> None:
    """Make a small corpus with planted conflicts, run every step on it, and compare what is found with the plan.

    A second run in the same folder goes on where the first one stopped.

    [bold]Example:[/] mixed-signals demo
    """
    started = time.perf_counter()
    console = stdout()
    corpus, store = folder / "corpus", folder / "store"
    settings = {"utterances": utterances, "seed": seed}
    console.print(f"1. A corpus of {utterances} short videos, rendered here", style="bold")
    _make_corpus(corpus, settings)
    console.print("2. Into a store", style="bold")
    if (store / "corpus.json").exists():
        console.print("there already")
    else:
        _command(
            "corpus", "import", "csv", corpus / "utterances.csv", "--store", store,
            "--group", "speaker", "--ratings", corpus / "ratings.csv", "--name", "demo",
        )  # fmt: skip
    console.print("3. One vector per utterance and modality", style="bold")
    _command("extract", store, "--text", "minilm", "--audio", "egemaps", "--video", "blendshapes")
    console.print("4. Heads on every subset of modalities", style="bold")
    if (store / "runs" / "demo" / "run.json").exists():
        console.print("there already")
    else:
        _command(
            "fit", store, "--features", "text=minilm,audio=egemaps,video=blendshapes",
            "--heads", "logistic,xgboost", "--fusion", "gated", "--folds", 5, "--seeds", 5, "--run", "demo",
        )  # fmt: skip
    console.print("5. Where they disagree", style="bold")
    _command("analyze", store, "--run", "demo", "--head", "gated")
    console.print("6. What was planted, and what was found", style="bold")
    from mixed_signals.analysis.planted import print_comparison

    print_comparison(console, store / "runs" / "demo" / "analysis", corpus / "planted.csv", head="gated")
    report = (store / "runs" / "demo" / "analysis" / "report" / "index.html").resolve()
    console.print(f"done in {time.perf_counter() - started:.0f} s; the report is at")
    console.print(str(report), soft_wrap=True)


def main() -> None:
    """Entry point of ``mixed-signals``."""
    run_app(app)


def _make_corpus(folder: Path, settings: dict[str, int]) -> None:
    """Render the demo's corpus, unless the folder holds the one with these settings."""
    from mixed_signals.store.files import read_json, write_json

    made = folder / "made.json"  # written last
    if made.exists():
        if read_json(made) != settings:
            raise UsageError(
                f"{folder}: holds a corpus of other settings ({read_json(made)}); name another FOLDER"
            )
        stdout().print("there already")
        return
    make_demo_corpus = import_module("mixed_signals.extract.demo.corpus").make_demo_corpus
    kept = "the same command renders it again and goes on"
    with interruptible(kept), progress("rendering", settings["utterances"]) as advance:
        make_demo_corpus(
            folder, n_utterances=settings["utterances"], seed=settings["seed"], on_progress=advance
        )
    write_json(made, settings)


def _command(name: str, *arguments: object) -> None:
    """Show a command as a person would type it, and run it."""
    words = [str(argument) for argument in arguments]
    typed = [_OWN_NAMES[name]] if name in _OWN_NAMES else ["mixed-signals", name]
    stdout().print(f"$ {shlex.join([*typed, *words])}", style="cyan", soft_wrap=True)
    command: Any = typer.main.get_command(import_module(COMMANDS[name]).app)
    command.main(args=words, prog_name=" ".join(typed), standalone_mode=False)
