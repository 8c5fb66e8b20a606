"""The encoders as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixed_signals.extract.encoders import PRESETS, Preset, on_this_machine
from mixed_signals.store.terminal import stdout

if TYPE_CHECKING:
    from rich.table import Table

OTHERS = (
    "Besides these, NAME is a folder that has a config.json, or a model on the Hugging Face hub (org/name). "
    "NAME:LAYERS:POOLINGS reads other layers and poolings, as in hubert-base:6-9+last:mean+std."
)


def print_encoders() -> None:
    """Print every preset: its dimensions, rate, licence, and whether its weights are on this machine."""
    from rich.text import Text

    table = new_table("encoder", "dims", "rate", "licence", "here", "what it is")
    for modality in ("text", "audio", "video"):
        table.add_row(Text(f"--{modality}", "bold"))
        mine = {name: preset for name, preset in PRESETS.items() if preset.modality == modality}
        for number, (name, preset) in enumerate(mine.items(), start=1):
            table.add_row(
                *(name, f"{preset.dimensions:,}", rate(preset), preset.licence, here(name), preset.about),
                end_section=number == len(mine),
            )
    console = stdout()
    console.print(table)
    console.print(OTHERS)


def new_table(*columns: str) -> Table:
    """Return a table whose last column gives way where there is little room."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for column in columns:
        last = column == columns[-1]
        table.add_column(
            column,
            justify="right" if column in ("dims", "rate", "MB") else "left",
            no_wrap=not last,
            overflow="fold",
        )
    return table


def rate(preset: Preset) -> str:
    """Return a preset's samples or pictures a second, as a person reads them."""
    if not preset.rate:
        return ""
    return f"{preset.rate / 1000:g} kHz" if preset.modality == "audio" else f"{round(preset.rate, 1):g} fps"


def here(name: str) -> str:
    """Return whether a preset's weights are on this machine, in a word."""
    return {None: "built in", True: "yes", False: "no"}[on_this_machine(name)]
