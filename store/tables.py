"""Tables for the terminal: what a store holds, what is wrong with it, what its files are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from mixed_signals.store.cross_fits import ALIGNED, alignment_notes
from mixed_signals.store.terminal import counted, describe_gap

if TYPE_CHECKING:
    from mixed_signals.store.doctor import Finding
    from mixed_signals.store.verify import CheckedFile

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_SHOWN_DIMENSIONS = 8
_SHOWN_IDS = 3
_RATE_BYTES = 1_000_000  # a rate of less says nothing


def feature_set_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return feature sets as `list_feature_sets` describes them, a row each."""
    table = _table("feature set", "vectors", "size", "rows", "recipe", "made with", wraps={"made with"})
    for one in found:
        _add_row(
            table,
            one["key"],
            f"{one['dimensions']:,} {one['dtype']}",
            decimal(one["bytes"])
            + (f"\nin {counted(one['files'] - 1, 'shard')}" if one["files"] > 1 else ""),
            "\n".join(f"{n:,} {status}" for status, n in one["coverage"].items() if n),
            one["recipe_fingerprint"][:8],
            _made_with(one),
        )
    return table


def shard_lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for the shards of each feature set, as `list_shards` describes them."""
    shards: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        shards.setdefault(one["key"], []).append(one)
    lines = []
    for key, mine in shards.items():
        unfinished = sum(one.get("coverage", {}).get("pending", 0) > 0 for one in mine)
        said = f"{key}: {len(mine):,} of {mine[-1]['of']:,} shards there and not merged"
        lines.append(said + (f", {unfinished:,} of them unfinished" if unfinished else ""))
    return lines


def run_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return runs as `list_runs` describes them, a row each."""
    table = _table("run", "made", "models", "utterances", "target", "of", wraps={"of"})
    for one in found:
        _add_row(
            table,
            one["name"],
            one["made"][:16].replace("T", " "),
            f"{one['models']:,}",
            f"{one['utterances']:,}",
            one["target"],
            ", ".join(f"{modality}/{name}" for modality, name in one["features"].items()),
        )
    return table


def note_lines(sets: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what is to be said wherever these feature sets and runs are shown, as they are described in `listing`."""
    return [
        *alignment_notes(one["key"] for one in sets if one["aligned"]),
        *(f"run {run['name']}: {override}" for run in runs for override in run["overrides"]),
    ]


def provenance_table(described: Mapping[str, Any], *, everything: bool = False) -> Table:
    """Return one feature set as `describe_features` describes it, a line for each thing that is known of it."""
    recipe, said = dict(described["recipe"]), dict(described["provenance"])
    versions, trained_on = said.pop("versions", []), said.pop("trained_on", [])
    makers, fold = said.pop("made_by", []), said.pop("cross_fitted", {})
    aligned = said.pop("aligned", {})
    names = described["dimension_names"]
    shown = names if everything else names[:_SHOWN_DIMENSIONS]
    rows = {
        "feature set": described["key"],
        "rows": ", ".join(f"{n:,} {status}" for status, n in described["coverage"].items() if n),
        "vectors": f"{described['dimensions']:,} x {described['dtype']}",
        "encoder": recipe.pop("encoder"),
        "weights": recipe.pop("weights"),
        "preprocessing": _pairs(recipe.pop("preprocessing")),
        "layer": recipe.pop("layer"),
        "pooling": recipe.pop("pooling"),
        "computed in": recipe.pop("dtype"),
        "kept in": recipe.pop("store_dtype"),
        **{name: value for name, value in recipe.items() if name != "modality"},
        "versions": "\n".join(_pairs(one) for one in versions),
        "trained on": counted(len(trained_on), "utterance") if trained_on else "",
        "made by": counted(len(makers), "encoder") if makers else "",
        "cross-fitted": _fold(fold) if fold else "",
        "aligned": f"{ALIGNED}\n{_pairs(aligned)}" if aligned else "",
        "imported from": said.pop("imported_from", ""),
        **{name.replace("_", " "): value for name, value in said.items()},
        "recipe": described["recipe_fingerprint"],
        "content": described["content_fingerprint"],
        "last job": _job(described["jobs"][-1]) if described["jobs"] else "",
        "file": f"{described['path']} ({_size(described)})",
        "dimensions": ", ".join(shown) + (", ..." if len(shown) < len(names) else ""),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        if value:
            _add_row(table, Text(name, style="dim"), Text(str(value), overflow="fold"))
    return table


def _size(described: Mapping[str, Any]) -> str:
    """Return how large a feature set is, and over how many files."""
    n = described["files"]
    virtual = f", virtual: vectors in {counted(n - 1, 'shard')}" if n > 1 else ""
    return f"{decimal(described['bytes'])}{virtual}"


def _fold(fold: Mapping[str, Any]) -> str:
    """Return for which fold a feature set was made."""
    place = f"{fold['design']}, partition {fold['partition']}, fold {fold['fold']}"
    return f"{place}: {len(fold['train_ids']):,} rows to train heads on, {len(fold['test_ids']):,} to test"


def describe_gaps(gaps: Iterable[Mapping[str, Any]], *, everything: bool = False) -> list[str]:
    """Return a line for the rows without a vector that share a reason, with three of their ids, or all."""
    if not everything:
        return [describe_gap(**gap) for gap in gaps]
    return [
        f"{len(gap['ids']):,} {gap['status']}{': ' if gap['reason'] else ''}{gap['reason']} ({', '.join(gap['ids'])})"
        for gap in gaps
    ]


def finding_table(findings: Iterable[Finding]) -> Table:
    """Return what `examine` found: what is wrong, and below it what mends it."""
    table = _table("severity", "where", "what, and what mends it", wraps={"what, and what mends it"})
    table.leading = 1
    for finding in findings:
        _add_row(
            table,
            Text(finding.severity, style=_COLOURS[finding.severity]),
            finding.where,
            _what_and_mend(finding.what, finding.mend),
        )
    return table


def file_table(files: Iterable[CheckedFile]) -> Table:
    """Return what `check_files` read, a row for each file, and below a corrupt one what is wrong and what mends it."""
    table = _table("file", "", "size", "MB/s", wraps={"file"})
    for file in files:
        what = file.what
        if file.rows:
            what += (
                ": " + ", ".join(file.rows[:_SHOWN_IDS]) + (", ..." if len(file.rows) > _SHOWN_IDS else "")
            )
        name = Text(file.path, overflow="fold")
        _add_row(
            table,
            name if file.ok else Text("\n").join([name, _what_and_mend(what, file.mend)]),
            Text("ok", style="green") if file.ok else Text("corrupt", style="red"),
            decimal(file.bytes),
            f"{file.bytes / 1e6 / file.seconds:,.0f}" if file.bytes >= _RATE_BYTES else "",
        )
    return table


def _table(*columns: str, wraps: Iterable[str] = ()) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    numbers = ("vectors", "size", "models", "utterances", "MB/s")
    for column in columns:
        table.add_column(
            column, justify="right" if column in numbers else "left", no_wrap=column not in wraps
        )
    return table


def _add_row(table: Table, *cells: object) -> None:
    """Add a row; what a cell says is never read as markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


def _what_and_mend(what: str, mend: str) -> Text:
    return Text(what).append(f"\nmend: {mend}", style="dim")


def _made_with(one: Mapping[str, Any]) -> str:
    """Return where vectors made elsewhere come from, or the first library of those they were made with."""
    if one["imported_from"]:
        return f"from {one['imported_from']}"
    return _pairs(dict(list(one["versions"].items())[:1]))


def _job(said: Mapping[str, Any]) -> str:
    """Return what a job says of itself, a line for each thing."""
    return "\n".join(
        f"{name.replace('_', ' ')} {_pairs(value) if isinstance(value, dict) else value}"
        for name, value in said.items()
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
