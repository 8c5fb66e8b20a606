"""``mixed-signals predict``: apply a run's heads to the utterances of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import Debug, make_app, split_pairs, stdout

app = make_app()


@app.command()
def predict(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Whose utterances are predicted.")],
    run: Annotated[str, typer.Option(help="The run whose heads are applied.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the predictions go: .csv or .parquet.")],
    origin: Annotated[
        Path | None,
        typer.Option("--from", metavar="STORE", help="The store that has the run. (default: STORE)"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="HEAD:A+B", help="Such as gated:text+audio. (default: the only one)"),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
    features: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=NAME", help="Feature sets that are called otherwise than in the run."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Predict utterances that no head was trained on, with the heads that were fitted on all rows of a run.

    [bold]Example:[/] mixed-signals predict new.store --from my.store --run first --model gated:text+audio --out p.csv
    """
    from mixed_signals.models.predicting import known_ids, models_of
    from mixed_signals.models.predicting import predict as predict_rows
    from mixed_signals.store import Store
    from mixed_signals.store.files import read_json, replacing, write_parquet

    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out {out}: use a name that ends in .csv or .parquet")
    if out.exists() and not replace:
        raise UsageError(f"--out {out}: is there already; choose another name, or replace it with --replace")
    target = Store.open(store)
    source = target if origin is None else Store.open(origin)
    if model is None:
        models = list(models_of(source, run))
        if len(models) != 1:
            listed = ", ".join(models) or "none; it was made with --no-refit"
            raise UsageError(f"--model: say which model of run {run!r} (it has: {listed})")
        model = models[0]
    table = predict_rows(target, source, run, model, split_pairs(features, "--features"))
    if out.suffix == ".csv":
        with replacing(out) as temporary:
            table.to_csv(temporary, index=False)
    else:
        write_parquet(out, table)
    console = stdout()
    if "label_pred" in table:
        counts = table["label_pred"].value_counts()
        told = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    else:
        told = (
            f"{table['y_pred'].min():.3g} to {table['y_pred'].max():.3g}, mean {table['y_pred'].mean():.3g}"
        )
    console.print(
        f"{len(table):,} of {len(target.corpus):,} utterances by {model}: {told}",
    )
    if known := int(table["utterance_id"].isin(known_ids(source, run)).sum()):
        console.print(
            f"{known:,} of them have ids that the run or its encoders were trained on: if they are the same "
            "utterances, the heads look better on them than they are",
            style="yellow",
            soft_wrap=True,
        )
    for override in read_json(source.run_path(run, "run.json")).get("overrides", ()):
        console.print(f"the run's scores: {override}", style="yellow", soft_wrap=True)
    console.print(f"in {out}", soft_wrap=True)
