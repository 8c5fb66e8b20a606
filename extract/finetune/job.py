"""What one call of ``finetune-encoders`` is to do: encoders to train, each on its own rows, and feature sets to make.

Everything is planned from labels, groups and seed alone, so that a second call, or another process, plans the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mixed_signals.extract.children import refuse_half_begun
from mixed_signals.extract.encoders import make_encoder, specs
from mixed_signals.extract.encoders.presets import PRESETS
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.designs import Design, Rows, Training, by_split, nested, three_way
from mixed_signals.extract.finetune.inputs import Inputs
from mixed_signals.extract.finetune.labels import Labels
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.training import Progress, train
from mixed_signals.store import Store, UsageError, folds
from mixed_signals.store.cross_fits import DESIGNS, families, member_name
from mixed_signals.store.files import checked_name, plain, read_json, write_json
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.provenance import fingerprint
from mixed_signals.store.splits import strata
from mixed_signals.store.views import Views, labelled_rows


@dataclass(frozen=True)
class Request:
    """What is asked for, apart from the device; small enough to hand to other processes.

    Attributes
    ----------
    store : Path
    encoders : tuple of (modality, encoder)
        One of a modality: a preset, a folder, or a name on the hub.
    settings : Settings
    design : str
        three-way or nested.
    split : str, optional
        Which value of the column ``split`` names the training rows; then there are no folds.
    folds : int
    group : str, optional
        The column that is kept apart; ``none`` for none. By default the corpus's groups, if it has any.
    seed : int
        Of folds, halves, validation rows and trainings.
    target : str
    name : str
        What follows the encoder's name in those of its feature sets.
    media_root : Path, optional
    revisions : mapping of str to str
        Revisions of hub models, by the name that is asked for.
    """

    store: Path
    encoders: tuple[tuple[str, str], ...]
    settings: Settings = field(default_factory=Settings)
    design: str = "three-way"
    split: str | None = None
    folds: int = 5
    group: str | None = None
    seed: int = 0
    target: str = "label"
    name: str = "tuned"
    media_root: Path | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How it is done; none of it changes a number.

    Attributes
    ----------
    workers : int, optional
        Processes that decode.
    timeout : float
        Seconds after which an utterance is given up.
    memory : int
        Bytes that the inputs of trainings may take.
    tensorboard : bool
    """

    workers: int | None = None
    timeout: float = 600.0
    memory: int = 4 << 30
    tensorboard: bool = False


@dataclass(frozen=True)
class Family:
    """What becomes of one encoder.

    Attributes
    ----------
    encoder : TransformerEncoder
        As it is before training, not loaded.
    name : str
        Of its feature sets, together.
    folder : Path
        Where its checkpoints go.
    """

    encoder: TransformerEncoder
    name: str
    folder: Path

    def checkpoint(self, design: Design, training: Training) -> Path:
        """Return the folder of a trained encoder: called as the feature set that it alone makes, if there is one."""
        return self.folder / (self.name if design.kind == "split" else f"{self.name}.{training.name}")

    def working(self, design: Design, training: Training) -> Path:
        """Return the folder in which it is trained."""
        final = self.checkpoint(design, training)
        return final.with_name(f".{final.name}.part")


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes
    ----------
    request : Request
    store : Store
    labels : Labels
    design : Design
    families : tuple of Family
    recipes : dict
        What decides how each encoder is trained, by the folder of its checkpoint.
    notes : tuple of str
        What the caller should be told.
    """

    request: Request
    store: Store
    labels: Labels
    design: Design
    families: tuple[Family, ...]
    recipes: dict[Path, dict[str, Any]]
    notes: tuple[str, ...]

    @property
    def todo(self) -> list[tuple[Family, Training]]:
        """The trainings that are not finished, a modality after the other."""
        return [
            (family, training)
            for family in self.families
            for training in self.design.trainings
            if card.finished(family.checkpoint(self.design, training)) is None
        ]


@dataclass(frozen=True)
class Step:
    """How far the trainings are: the present one, its number of how many are to be done in this call."""

    modality: str
    number: int
    of: int
    progress: Progress


def plan(request: Request, device: str = "auto", *, fetch: bool = True) -> Job:
    """Say what would be done, without doing anything.

    Parameters
    ----------
    request : Request
    device : str
    fetch : bool
        Whether weights that are not on this machine are fetched.

    Raises
    ------
    UsageError
        If an encoder has no network that can be trained, the target or the folds are none that it can be trained for,
        or another recipe was used under this name.
    MixedSignalsError
        If weights are not to be had, or nothing has a label.
    """
    store = Store.open(request.store, media_root=request.media_root)
    _check_request(request)
    views = labelled_rows(store.corpus, request.target)
    labels = Labels(views.kind, views.classes, dict(zip(views.ids.tolist(), views.y, strict=True)))
    group, notes = _group(views, request.group)
    design = _design(request, store, views, group)
    made = tuple(_family(store, request, *one, device, fetch) for one in request.encoders)
    recipes = {
        family.checkpoint(design, training): _recipe(request, store, labels, design, family, training)
        for family in made
        for training in design.trainings
    }
    job = Job(request, store, labels, design, made, recipes, notes)
    for family in made:
        _refuse_other(job, family)
    return job


def train_encoders(
    job: Job,
    options: Options | None = None,
    todo: Sequence[tuple[Family, Training]] | None = None,
    *,
    on_step: Callable[[Step], None] | None = None,
    on_read: Callable[[str, int], None] | None = None,
) -> None:
    """Train the encoders that are not trained yet. What is finished stays, whatever happens later.

    Parameters
    ----------
    job : Job
    options : Options, optional
    todo : sequence of (Family, Training), optional
        Only some of those in `Job.todo`.
    on_step : callable, optional
        Called after each step of the optimiser.
    on_read : callable, optional
        Called for each utterance that was read, with the modality and how many there are to read.

    Raises
    ------
    MixedSignalsError
        If a training cannot go on, or another process is at it.
    """
    refuse_half_begun()
    options = options or Options()
    todo = job.todo if todo is None else todo
    for family in job.families:
        mine = [(number, one) for number, (of, one) in enumerate(todo, start=1) if of is family]
        if not mine:
            continue
        family.encoder.prepare()
        inputs = Inputs(
            job.store,
            family.encoder,
            workers=options.workers,
            timeout=options.timeout,
            memory=options.memory,
            max_seconds=job.request.settings.max_seconds,
        )
        _read(inputs, family.encoder.modality, [training for _, training in mine], on_read)
        for number, training in mine:

            def report(
                progress: Progress, number: int = number, modality: str = family.encoder.modality
            ) -> None:
                if on_step is not None:
                    on_step(Step(modality, number, len(todo), progress))

            _train(job, family, training, inputs, options, report)


def _read(
    inputs: Inputs, modality: str, trainings: Sequence[Training], on_read: Callable[[str, int], None] | None
) -> None:
    """Read what the trainings learn from once, before the first of them."""
    wanted = sorted(frozenset().union(*(training.seen for training in trainings)))
    inputs.look(wanted, lambda: on_read(modality, len(wanted)) if on_read is not None else None)


def _train(
    job: Job,
    family: Family,
    training: Training,
    inputs: Inputs,
    options: Options,
    report: Callable[[Progress], None],
) -> None:
    """Train one encoder, and keep it."""
    final, working = family.checkpoint(job.design, training), family.working(job.design, training)
    with sole_writer(final, "encoder"):
        if card.finished(final) is not None:  # by another process, meanwhile
            return
        recipe = job.recipes[final]
        write_json(working / card.RECIPE, recipe)
        try:
            trained = train(
                family.encoder,
                inputs,
                job.labels,
                training,
                job.request.settings,
                working,
                seed=job.request.seed,
                on_progress=report,
                tensorboard=options.tensorboard,
            )
            rows = {
                "trained_on": sorted(training.seen),
                "train_ids": list(training.train_ids),
                "validation_ids": list(training.validation_ids),
            }
            card.keep(trained, recipe, rows, working, final)
        finally:
            family.encoder.close()


def _check_request(request: Request) -> None:
    modalities = [modality for modality, _ in request.encoders]
    if not modalities:
        raise UsageError("name at least one encoder: --text, --audio or --video")
    for modality in modalities:
        if modalities.count(modality) > 1:
            raise UsageError(f"--{modality}: one encoder at a time; call it once for each")
    if request.design not in DESIGNS:
        raise UsageError(f"--design {request.design!r}: use {' or '.join(DESIGNS)}")
    if request.seed < 0:
        raise UsageError(f"--seed {request.seed}: use 0 or a number above it")
    checked_name(request.name, "--name")


def _group(views: Views, group: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the column that is kept apart, or None, and what has to be said of it."""
    if group == "none":
        return None, (
            "nothing keeps speakers apart (--group none): encoders are tested on speakers they know",
        )
    if group is None and views.groups is None:
        said = "the corpus has no groups, so rows of one speaker may be trained and tested on (--group COLUMN keeps "
        return None, (f"{said}them apart)",)
    return group or "group", ()


def _design(request: Request, store: Store, views: Views, group: str | None) -> Design:
    groups = views.ids if group is None else views.groups_by(group)
    rows = Rows(views.ids, strata(views.kind, views.y), groups)
    share = request.settings.validation
    if request.split is not None:
        said = views.utterances["split"].astype(object).fillna("").map(str).to_numpy(dtype=object)
        everything = store.corpus.ids
        return by_split(
            rows, said, everything, train=request.split, seed=request.seed, validation=share, group=group
        )
    outer = folds(views, request.folds, group=group, partition=request.seed)
    made = three_way if request.design == "three-way" else nested
    return made(rows, outer, seed=request.seed, validation=share, group=group)


def _family(store: Store, request: Request, modality: str, spec: str, device: str, fetch: bool) -> Family:
    asked = specs.parse(spec, f"--{modality}")
    if asked.readouts:
        raise UsageError(
            f"--{modality} {spec}: an encoder is trained at its own layer and pooling: write {asked.name}"
        )
    revision = request.revisions.get(asked.name, "")
    encoder = make_encoder(modality, spec, revision=revision, device=device, fetch=fetch)
    if not isinstance(encoder, TransformerEncoder):
        raise UsageError(f"--{modality} {spec}: has no network that could be trained: use a transformer")
    name = checked_name(f"{encoder.name}.{request.name}", f"--{modality} {spec}: feature set")
    return Family(encoder, name, store.inside("encoders", modality))


def _recipe(
    request: Request, store: Store, labels: Labels, design: Design, family: Family, training: Training
) -> dict[str, Any]:
    """Return what decides how an encoder is trained, as its card has it."""
    encoder = family.encoder
    (_, spec), *_ = (one for one in request.encoders if one[0] == encoder.modality)
    hub_name = PRESETS[spec].hub if spec in PRESETS else spec if not Path(spec).expanduser().exists() else ""
    made_of = dict(
        zip(store.corpus.ids.tolist(), store.corpus.entry_hash_bytes(encoder.modality), strict=True)
    )
    rows = (*training.train_ids, *training.validation_ids)
    said: dict[str, Any] = plain(
        {
            "encoder": encoder.name,
            "base_model": hub_name,
            "modality": encoder.modality,
            "weights": encoder.checkpoint.fingerprint,
            "revision": encoder.checkpoint.revision,
            "preprocessing": encoder.preprocessing,
            "pooling": encoder.outputs[0].recipe.pooling,
            "corpus": store.corpus.name,
            "target": request.target,
            "kind": labels.kind,
            "classes": list(labels.classes),
            "design": design.kind,
            "training": training.name,
            "group": design.group,
            "seed": request.seed,
            "train_rows": fingerprint(sorted(training.train_ids)),
            "validation_rows": fingerprint(sorted(training.validation_ids)),
            "labels": fingerprint([(one, plain(labels.values[one])) for one in sorted(rows)]),
            "content": fingerprint([made_of[one].decode() for one in sorted(rows)]),
            "settings": asdict(request.settings),
        }
    )
    return said


def _refuse_other(job: Job, family: Family) -> None:
    """Refuse where something else was made under this name."""
    modality, name = family.encoder.modality, family.name
    known = families(job.store.feature_sets())
    members = known.get(f"{modality}/{name}", [])
    mine = {
        f"{modality}/{feature_set(job.design, family, number)}" for number in range(len(job.design.members))
    }
    others = {key for key in (*members, f"{modality}/{name}") if key in job.store.feature_sets()} - mine
    if others:
        raise UsageError(
            f"{min(others)}: made by another design or number of folds under this name; give the new ones a name of "
            "their own (--name), or remove them"
        )
    for training in job.design.trainings:
        final = family.checkpoint(job.design, training)
        done, begun = card.finished(final), family.working(job.design, training) / card.RECIPE
        if done is not None:
            card.refuse_other(final, done["recipe"], job.recipes[final])
        elif begun.is_file():
            card.refuse_other(begun.parent, read_json(begun), job.recipes[final])


def feature_set(design: Design, family: Family, number: int) -> str:
    """Return the name of the feature set that a member of the design becomes."""
    member = design.members[number]
    return family.name if design.kind == "split" else member_name(family.name, member.partition, member.fold)


def reasons_left_out(job: Job, made: Sequence[str], seen: frozenset[str]) -> dict[int, str]:
    """Return the corpus positions of which an encoder makes no vector, and why.

    Parameters
    ----------
    job : Job
    made : sequence of str
        The rows that it makes.
    seen : frozenset of str
        The rows that it was trained on.
    """
    wanted = set(made)
    found = {}
    for position, one in enumerate(job.store.corpus.ids.tolist()):
        if one not in wanted:
            labelled = one in job.labels.values
            found[position] = (
                "trained its encoder" if one in seen else "of another fold" if labelled else "without a label"
            )
    return found
