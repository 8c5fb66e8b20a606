"""One call that analyses a run: every question of every head, tables, findings, and the report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.analysis import ambiguity, compare, disagreement, dominance, people, robustness, typology
from mixed_signals.analysis.ambiguity import agreement
from mixed_signals.analysis.cautions import cautions
from mixed_signals.analysis.findings import Answer, Finding, p_value
from mixed_signals.analysis.inference import adjust
from mixed_signals.analysis.outputs import methods_section, write_findings, write_tables
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.people.votes import check_values
from mixed_signals.analysis.report.folder import ELSEWHERE, check_report_folder, is_report
from mixed_signals.analysis.robustness import reweighting
from mixed_signals.analysis.study import Study, group_column
from mixed_signals.models.intervals import FEWEST_GROUPS, FEWEST_RESAMPLED
from mixed_signals.store import Run, Store, UsageError, load_run
from mixed_signals.store.files import replacing, write_json
from mixed_signals.store.terminal import counted

QUESTIONS: dict[str, Callable[[Study, Panel], Answer]] = {
    "disagreement": disagreement.evaluate,
    "typology": typology.evaluate,
    "ambiguity": ambiguity.evaluate,
    "dominance": dominance.evaluate,
    "robustness": robustness.evaluate,
    "compare": compare.evaluate,
}
"""What is asked of each head, by the name of its module."""


def _people(study: Study) -> Answer:
    if study.ratings is None:
        return Answer()  # which `agreement` says
    return people.evaluate(
        study.ratings,
        _rated_target(study),
        study.utterances[group_column(study.run)],
        **study.resampling,
        panel=study.panels[0],
        values=study.values,
    )


def _rated_target(study: Study) -> pd.Series:
    """Return the labels beside which people are set."""
    return _labels(study.utterances, study.run.kind if study.run.info.get("target") == "label" else "nominal")


def _labels(utterances: pd.DataFrame, kind: str) -> pd.Series:
    """Return the labels, as numbers where they are of an interval target."""
    labels = utterances["label"]
    return pd.to_numeric(labels, errors="coerce").astype(np.float64) if kind == "interval" else labels


ASKED_ONCE: dict[str, Callable[[Study], Answer]] = {"agreement": agreement.evaluate, "people": _people}
"""What is asked of the raters."""


ALPHA = 0.05
_CROSS_FITTED = (
    "Encoders were fine-tuned for each fold; its heads, those trained again and those given changed "
    "rows, have the fold's own vectors."
)
_SIDE = re.compile(r"\b(above|below)\b")  # of a reference, in a verdict


@dataclass(frozen=True, repr=False)
class Analysis:
    """What one analysis found.

    Attributes
    ----------
    corpus : str
        Name of the corpus.
    run : Run or None
        None where people alone were analysed.
    modalities : dict of str to tuple
        The modalities of each head that was analysed.
    tables : dict of str to DataFrame
        By name: ``utterances`` (a row for each head and utterance), ``rates``, ``typology`` and those of the other
        questions (see their modules).
    findings : list of Finding
        What was named as primary first.
    warnings : list of str
        What weakens the findings, or is missing.
    methods : str
        For a paper, with references.
    folder : Path
        Where the tables and ``findings.json`` were written.
    report : Path or None
        The page; None where there is none.
    """

    corpus: str
    run: Run | None
    modalities: dict[str, tuple[str, ...]]
    tables: dict[str, pd.DataFrame]
    findings: list[Finding]
    warnings: list[str]
    methods: str
    folder: Path
    report: Path | None = None

    def table(self, name: str) -> pd.DataFrame:
        """Return a table; an empty one where the question was not asked or has no answer."""
        return self.tables.get(name, pd.DataFrame())

    def __repr__(self) -> str:
        about = f"run {self.run.name}" if self.run else "raters"
        return f"<Analysis of {about}: {len(self.findings)} findings; tables {', '.join(self.tables)}>"

    @property
    def heads(self) -> list[str]:
        """The heads that were analysed."""
        return list(self.modalities)


def analyze(
    store: Store,
    run_name: str,
    *,
    heads: Sequence[str] = (),
    questions: Sequence[str] = (),
    primary: Sequence[str] = (),
    against: str | None = None,
    refit: bool = True,
    train_again: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    report: str | Path | None = None,
    clips: bool = False,
    values: Mapping[str, str] | None = None,
    on_question: Callable[[str], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Analysis:
    """Analyse where and why the models of a run disagree, and write the results below ``runs/<run_name>/analysis/``.

    What answers some questions alone goes into a folder of its own there, named after them.

    Parameters
    ----------
    store : Store
    run_name : str
    heads : sequence of str
        Heads to analyse; empty for all that can be.
    questions : sequence of str
        Keys of `QUESTIONS` and `ASKED_ONCE`; empty for all.
    primary : sequence of str
        What the study was said to be about before it was analysed, each as ``HEAD:QUANTITY`` of a finding, such as
        ``gated:text against fusion, excess``. Holm's correction is applied among these, Benjamini and Hochberg's among
        all others, which are exploratory. A quantity that no finding has is an error once all is written without it.
    against : str, optional
        Another run of the same utterances and folds, with which this one is compared.
    refit : bool
        Whether heads may be trained again for floors: on resampled groups, where a head has no seed noise, and on
        halves of a modality's features.
    train_again : bool
        Whether to train the fusion again with rows weighted by disagreement, and to compare that with plain training.
    resamples : int
        Of groups, for intervals; as many permutations for tests.
    seed : int
        Of both.
    report : path, optional
        Folder of the report; ``runs/<run_name>/analysis/report`` by default.
    clips : bool
        Whether each utterance's clip is cut into the report, so that it can be sent away without the recordings.
    values : mapping of str to str, optional
        What values of the ratings mean as labels where people are set beside them, e.g. ``{"A": "anger"}``; one mapped
        to itself is an answer that is always wrong.
    on_question : callable, optional
        Called with what is being asked.
    on_step : callable, optional
        Called with what of the report is being written.

    Raises
    ------
    UsageError
        If there is no such run, head, question or quantity, its target is multilabel, no head has a fusion and a
        model of each of its modalities, `values` maps to something that is no label, or the report's folder holds
        something else.

    Examples
    --------
    >>> analysis = analyze(Store.open("my.store"), "first")  # doctest: +SKIP
    >>> for finding in analysis.findings:  # doctest: +SKIP
    ...     print(finding.verdict)
    """
    asked = _asked(questions)
    if report is not None:
        check_report_folder(Path(report))
    study = Study.open(store, run_name, heads, resamples=resamples, seed=seed, refit=refit, values=values)
    if values and (labels := _rated_target(study)).dtype.kind != "f":
        check_values(values, sorted(set(labels.dropna().astype(str)) - {""}))
    heads_here = [panel.head for panel in study.panels]
    for name in primary:
        if name.partition(":")[0] not in (*heads_here, ""):
            raise UsageError(f"--primary {name!r}: write HEAD:QUANTITY; heads: {', '.join(heads_here)}")
    tell = on_question or (lambda question: None)
    answers = []
    overrides = _overrides(study.run)
    if against is not None:
        tell(f"{run_name} against {against}")
        other = load_run(store, against)
        answers.append(_against(study, other))
        overrides += [f"Run {against}: {sentence}" for sentence in _overrides(other)]
    for panel in study.panels:
        for name, evaluate in asked.items():
            tell(f"{panel.head}: {name}")
            answers.append(evaluate(study, panel))
        if train_again:
            tell(f"{panel.head}: training again")
            answers.append(reweighting.evaluate_training(study, panel))
    for name, evaluate_once in ASKED_ONCE.items():
        if name in questions or not questions:
            tell(name)
            answers.append(evaluate_once(study))
    answer = _together(answers)
    tables = dict(answer.tables)
    if study.run.info.get("seed_spread"):
        tables["seed_spread"] = pd.DataFrame(study.run.info["seed_spread"])
    if "utterances" in tables:
        tables["utterances"] = _described(study, tables["utterances"], tables)
    folder = store.run_path(run_name) / "analysis" / "+".join(questions)
    unknown = _unknown(answer.findings, primary)
    result = Analysis(
        corpus=store.corpus.name,
        run=study.run,
        modalities={panel.head: panel.unimodals for panel in study.panels},
        tables=tables,
        findings=[
            replace(finding, overrides=tuple(overrides))
            for finding in _sorted(_qualified(adjust(_primary(answer.findings, primary))))
        ],
        warnings=_grouped([*overrides, *_weaknesses(study), *answer.notes], heads_here),
        methods=methods_section([_inference(study), overrides, *(each.methods for each in answers)]),
        folder=folder,
    )
    _write(result)
    own, shown = folder / "report", {"utterances", "rates"} <= set(tables)
    place = own if report is None else Path(report)
    if not (shown and place.resolve() == own.resolve() and is_report(own)):
        shutil.rmtree(own, ignore_errors=True)  # of an earlier analysis
    (folder / ELSEWHERE).unlink(missing_ok=True)
    if shown:
        from mixed_signals.analysis.report.page import write_report

        result = replace(result, report=write_report(result, study, place, clips=clips, on_step=on_step))
        if place.resolve() != own.resolve():
            write_json(folder / ELSEWHERE, {"report": str(place.resolve())})
    elif report is not None or not questions:
        result.warnings.append("There is no report: it shows disagreement, of which there is none to show.")
    if unknown:
        raise UsageError(f"{unknown}; all was written to {folder}, without it")
    return result


def analyze_people(
    store: Store, *, resamples: int = 1000, seed: int = 0, values: Mapping[str, str] | None = None
) -> Analysis:
    """Analyse what the raters of a corpus saw and said; no run and no features are needed.

    Writes into the store's folder ``people/``.

    Parameters
    ----------
    store : Store
    resamples, seed : int
        Of resamples of groups and of permutations.
    values : mapping of str to str, optional
        What values of the ratings mean as labels, as in `analyze`.

    Raises
    ------
    UsageError
        If the corpus has no ratings, or `values` maps to something that is no label.
    """
    corpus = store.corpus
    if corpus.ratings is None:
        raise UsageError(f"{store.path}: has no run and no ratings to analyse; make a run with fit-heads")
    utterances = corpus.utterances.set_index("utterance_id", drop=False)
    kinds = {target.name: target.kind for target in corpus.targets}
    labels = _labels(utterances, kinds.get("label", "nominal"))
    answer = people.evaluate(
        corpus.ratings, labels, utterances["group"], resamples=resamples, seed=seed, values=values
    )
    result = Analysis(
        corpus=corpus.name,
        run=None,
        modalities={},
        tables=answer.tables,
        findings=_qualified(adjust(answer.findings)),
        warnings=answer.notes,
        methods=methods_section([answer.methods]),
        folder=store.inside("people"),
    )
    _write(result)
    return result


def _asked(questions: Sequence[str]) -> dict[str, Callable[[Study, Panel], Answer]]:
    known = (*QUESTIONS, *ASKED_ONCE)
    if unknown := [name for name in questions if name not in known]:
        raise UsageError(f"--only: no question {unknown[0]!r}; there are {', '.join(known)}")
    return {name: evaluate for name, evaluate in QUESTIONS.items() if name in questions or not questions}


def _together(answers: Sequence[Answer]) -> Answer:
    """Return answers as one: tables of one name below each other, notes once."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for answer in answers:
        for name, table in answer.tables.items():
            if not any(table.equals(other) for other in parts.get(name, ())):
                parts.setdefault(name, []).append(table)
    return Answer(
        {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()},
        [finding for answer in answers for finding in answer.findings],
        list(dict.fromkeys(note for answer in answers for note in answer.notes)),
    )


def _against(study: Study, other: Run) -> Answer:
    """Compare the run with another one: the models of the heads that are analysed, fusions first."""
    both = set(study.run.predictions["model"]) & set(other.predictions["model"])
    names = [
        name
        for panel in study.panels
        for subset in ("+".join(panel.unimodals), *panel.between, *panel.unimodals)
        if (name := f"{panel.head}:{subset}") in both
    ]
    groups = study.utterances[group_column(study.run)]
    pairs = [(name, name) for name in names] or None
    return compare.compare_runs(study.run, other, pairs, groups=groups, **study.resampling)


def _key(finding: Finding) -> str:
    return f"{finding.head}:{finding.quantity}"


def _primary(findings: Sequence[Finding], named: Sequence[str]) -> list[Finding]:
    """Return the findings with those marked that were named beforehand."""
    return [replace(finding, primary=_key(finding) in named) for finding in findings]


def _qualified(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings that say so where their test, or its correction, takes away what the interval would give."""
    found = []
    for f in findings:
        if f.p > ALPHA and _SIDE.search(f.verdict):
            f = replace(f, verdict=f"{f.verdict} The test does not bear that out ({p_value(f.p)}).")
        elif f.p <= ALPHA < f.p_adjusted:
            f = replace(f, verdict=f"{f.verdict} Corrected for all that was asked, {p_value(f.p_adjusted)}.")
        found.append(f)
    return found


def _unknown(findings: Sequence[Finding], named: Sequence[str]) -> str:
    """Return what is to be said of a name that no finding has, or nothing."""
    known = [_key(finding) for finding in findings]
    for name in named:
        if name not in known:
            near = get_close_matches(name, known, 3, 0) or ["none"]
            return f"--primary: no finding {name!r}; the nearest are {'; '.join(map(repr, near))}"
    return ""


def _grouped(notes: Sequence[str], heads: Sequence[str]) -> list[str]:
    """Return notes, each once; what is said of several heads alike begins with all of them."""
    found: dict[str, list[str]] = {}
    for note in notes:
        head = next((head for head in heads if note.startswith(f"{head}: ")), "")
        found.setdefault(note.removeprefix(f"{head}: ") if head else note, []).append(head)
    return [
        f"{', '.join(dict.fromkeys(said_of))}: {note}" if any(said_of) else note
        for note, said_of in found.items()
    ]


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: not finding.primary)


def _described(study: Study, utterances: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of utterances with group, text and, where there are ratings, votes."""
    ids = utterances["utterance_id"]
    about = study.utterances.reindex(ids)
    groups = about[group_column(study.run)].astype(object).fillna("")
    table = utterances.assign(group=groups.to_numpy(object), text=about["text"].to_numpy(object))
    if "types" in tables:
        table = table.merge(tables["types"], on=["head", "utterance_id"], how="left", validate="one_to_one")
    if "votes" in tables:
        table = table.merge(tables["votes"], on="utterance_id", how="left", validate="many_to_one")
    for panel in study.panels:
        for name, values in zip(
            ("gate", "contribution"), dominance.gate_means(study.run.gates, panel) or (), strict=False
        ):
            for modality, one in zip(panel.unimodals, values, strict=True):
                column = f"{name}_{modality}"
                mine = pd.Series(one, index=panel.ids).reindex(table["utterance_id"]).to_numpy(np.float64)
                before = table.get(column, np.nan)
                table[column] = np.where(table["head"] == panel.head, mine, before)
    return table


def _overrides(run: Run) -> list[str]:
    """Return sentences on what was overridden in a run, or is experimental in it."""
    return [f"{said[0].upper()}{said[1:]}." for said in run.info.get("overrides", ())]


def _weaknesses(study: Study) -> list[str]:
    """Return sentences on what weakens all findings of a study."""
    named = {
        group
        for panel in study.panels
        if panel.groups is not None
        for group in np.unique(panel.groups.astype(str))
    }
    return [
        *study.notes,
        *cautions(
            study.panels,
            len(named - {""}) or None,
            study.run.metrics,
            groups_kept_apart=study.run.info.get("group") is not None,
            cross_fitted=study.views_by_fold,
        ),
    ]


def _inference(study: Study) -> list[str]:
    """Return what holds for all questions, for a section on methods."""
    panel = study.panels[0]
    n_partitions = len(panel.folds)
    trainings = ", ".join(f"{each.head} {len(each.seeds)}" for each in study.panels)
    n_groups = len(set(panel.groups) - {""}) if panel.groups is not None else 0
    unit = f"the group ({n_groups} of them)" if n_groups else "the utterance, since there are no groups"
    return [
        f"All models are tested out of fold; their outputs are averaged over seeds (trainings: {trainings}) and "
        f"{counted(n_partitions, 'partition')} into folds before anything is tested, and the spread over seeds is "
        "reported on its own.",
        *([_CROSS_FITTED] if study.views_by_fold else []),
        f"The unit of resampling is {unit}: 95% intervals are bootstrap-t over {FEWEST_RESAMPLED} units or more "
        f"({study.resamples} resamples) [Efron 1981; Davison 1997], with fewer, and for statistics that are no "
        "functions of sums, by deleting one unit at a time with Student's t [MacKinnon 2023], and are not given below "
        f"{FEWEST_GROUPS} units; they are conditional on the trained models.",
        f"Tests flip or permute whole units or within them, with {study.resamples} draws [Winkler 2014; Phipson 2010]; "
        "p is corrected by Holm among what was named beforehand [Holm 1979], and the false discovery rate is "
        "controlled among all else, which is exploratory [Benjamini 1995].",
    ]


def _write(result: Analysis) -> None:
    write_findings(result.folder / "findings.json", result.findings)
    write_tables(result.folder, result.tables)
    with replacing(result.folder / "methods.md") as temporary:
        temporary.write_text(result.methods, encoding="utf-8")
