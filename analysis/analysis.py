"""One call that analyses a run: tables, findings, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.analysis import ambiguity, disagreement, typology
from mixed_signals.analysis.findings import (
    Finding,
    cautions,
    link_findings,
    rate_findings,
    type_findings,
    write_findings,
)
from mixed_signals.analysis.panel import check_kind, make_panels
from mixed_signals.store import Run, Store, load_run
from mixed_signals.store.files import write_parquet


@dataclass(frozen=True)
class Analysis:
    """What one analysis found.

    Attributes
    ----------
    corpus : str
        Name of the corpus.
    run : Run
    utterances : DataFrame
        One row per head and utterance: `disagreement.utterance_table`, ``group``, ``text``, ``type``, ``family``,
        ``stability`` and, with ratings, the columns of `ambiguity.vote_table`.
    rates, typology, link : DataFrame
        See `disagreement.disagreement_rates`, `typology.typology_table`, `ambiguity.link_table` (empty without
        ratings).
    findings : list of Finding
    warnings : list of str
        What weakens the findings, or is missing.
    folder : Path
        Where the tables and ``findings.json`` were written.
    report : Path
        The page.
    """

    corpus: str
    run: Run
    utterances: pd.DataFrame
    rates: pd.DataFrame
    typology: pd.DataFrame
    link: pd.DataFrame
    findings: list[Finding]
    warnings: list[str]
    folder: Path
    report: Path

    @property
    def heads(self) -> list[str]:
        """The heads that were analysed."""
        return list(dict.fromkeys(self.rates["head"]))

    def modalities(self, head: str) -> list[str]:
        """Return the modalities of a head's fusion."""
        return list(dict.fromkeys(self.rates.loc[self.rates["head"] == head, "first"]))


def analyze(
    store: Store, run_name: str, *, heads: Sequence[str] = (), report: str | Path | None = None
) -> Analysis:
    """Analyse where and why the models of a run disagree, and write the results.

    Intervals delete the groups that the run kept apart in training, or else the corpus's own.

    Writes ``findings.json``, ``utterances.parquet``, ``rates.parquet``, ``typology.parquet`` and, with ratings,
    ``link.parquet`` below ``runs/<run_name>/analysis/``, and the report.

    Parameters
    ----------
    store : Store
    run_name : str
    heads : sequence of str
        Heads to analyse; empty for all that can be.
    report : path, optional
        Folder of the page; ``runs/<run_name>/analysis/report`` by default.

    Raises
    ------
    UsageError
        If there is no such run or head, its target is interval or multilabel, or no head has a fusion and a model of
        each of its modalities.

    Examples
    --------
    >>> analysis = analyze(Store.open("my.store"), "first")  # doctest: +SKIP
    >>> for finding in analysis.findings:  # doctest: +SKIP
    ...     print(finding.verdict)
    """
    run = load_run(store, run_name)
    check_kind(run)
    panels, said = make_panels(run.predictions, heads)
    warnings = [f"{override[0].upper()}{override[1:]}." for override in run.info.get("overrides", ())] + said
    corpus = store.corpus
    described = corpus.utterances.set_index("utterance_id")
    groups = described[run.info.get("group") or "group"]
    used = groups.reindex(np.concatenate([panel.ids for panel in panels]))
    named = set(used.dropna()) - {""}
    warnings += cautions(
        panels, len(named) or None, run.metrics, groups_kept_apart=run.info.get("group") is not None
    )
    votes = None if corpus.ratings is None else ambiguity.vote_table(corpus.ratings)

    tables, rates, types, links = [], [], [], []
    for panel in panels:
        by = groups.reindex(panel.ids).to_numpy(dtype=object)
        table = disagreement.utterance_table(panel)
        table["type"], table["stability"] = typology.utterance_types(panel)
        table["family"] = typology.family(table["type"])
        table["group"] = by
        table["text"] = described["text"].reindex(panel.ids).to_numpy(dtype=object)
        rates.append(disagreement.disagreement_rates(panel, by))
        types.append(typology.typology_table(panel, by))
        if votes is not None:
            link = ambiguity.link_table(table, votes, groups)
            if link["n"].max() > 0:
                links.append(link)
            table = table.merge(votes, on="utterance_id", how="left", validate="one_to_one")
        tables.append(table)

    if votes is None:
        warnings.append("The corpus has no ratings: disagreement is not set beside what people see.")
    elif not links:
        warnings.append(
            "No analysed utterance has two ratings or more in the fullest condition: "
            "disagreement is not set beside what people see."
        )
    rate_table, type_table = pd.concat(rates, ignore_index=True), pd.concat(types, ignore_index=True)
    link_table = pd.concat(links, ignore_index=True) if links else pd.DataFrame()
    folder = store.run_path(run_name) / "analysis"
    result = Analysis(
        corpus=corpus.name,
        run=run,
        utterances=pd.concat(tables, ignore_index=True),
        rates=rate_table,
        typology=type_table,
        link=link_table,
        findings=[*rate_findings(rate_table), *link_findings(link_table), *type_findings(type_table)],
        warnings=warnings,
        folder=folder,
        report=(Path(report) if report else folder / "report") / "index.html",
    )
    write_findings(folder / "findings.json", result.findings)
    for name, table in {"utterances": result.utterances, "rates": rate_table, "typology": type_table}.items():
        write_parquet(folder / f"{name}.parquet", table)
    if links:
        write_parquet(folder / "link.parquet", link_table)
    else:
        (folder / "link.parquet").unlink(missing_ok=True)  # of an earlier analysis, when there were ratings

    from mixed_signals.analysis.report.page import write_page

    write_page(result)
    return result
