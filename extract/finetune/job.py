"""What one call of ``finetune-encoders`` is to do: encoders to train, each on its own rows, and feature sets to make.

Everything is planned from labels, groups and seed alone, so that a second call, or another process, plans the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixed_signals.extract.encoders import make_encoder, specs
from mixed_signals.extract.encoders.transformer import TransformerEncoder
from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.designs import Design, Member, Rows, Training, by_split, nested, three_way
from mixed_signals.extract.finetune.labels import Labels
from mixed_signals.extract.finetune.network import check_trainable
from mixed_signals.extract.finetune.recipe import MEDIA, recipe_of
from mixed_signals.extract.finetune.request import Request, check
from mixed_signals.extract.sources import Sources, require_source
from mixed_signals.store import Store, UsageError, folds
from mixed_signals.store.cross_fits import families, member_name
from mixed_signals.store.files import checked_name, read_json
from mixed_signals.store.splits import strata
from mixed_signals.store.views import Views, labelled_rows


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
    design : Design
        Of all families alike.
    """

    encoder: TransformerEncoder
    name: str
    folder: Path
    design: Design

    @property
    def modality(self) -> str:
        """Its encoder's."""
        return self.encoder.modality

    def checkpoint(self, training: Training) -> Path:
        """Return the folder of a trained encoder: called as the feature set that it alone makes, if there is one."""
        return self.folder / (self.name if self.design.kind == "split" else f"{self.name}.{training.name}")

    def working(self, training: Training) -> Path:
        """Return the folder in which it is trained."""
        final = self.checkpoint(training)
        return final.with_name(f".{final.name}.part")

    def feature_set(self, member: Member) -> str:
        """Return the name of the feature set that a member of the design becomes."""
        return (
            self.name
            if self.design.kind == "split"
            else member_name(self.name, member.partition, member.fold)
        )

    @property
    def keys(self) -> list[str]:
        """Its feature sets, as the store calls them, in the order of the design's members."""
        return [f"{self.modality}/{self.feature_set(member)}" for member in self.design.members]


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
            if card.finished(family.checkpoint(training)) is None
        ]


def plan(request: Request, device: str = "auto", *, fetch: bool = True) -> Job:
    """Say what would be done, without training anything.

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
        no labelled utterance has text or media for it, another recipe was used under this name, or the weights were
        trained on rows that are to be tested.
    MixedSignalsError
        If weights are not to be had, or nothing has a label.
    """
    store = Store.open(request.store, media_root=request.media_root)
    check(request)
    views = labelled_rows(store.corpus, request.target)
    labels = Labels(views.kind, views.classes, dict(zip(views.ids.tolist(), views.y, strict=True)))
    group, notes = _group(views, request.group)
    design = _design(request, store, views, group)
    made = tuple(_family(store, request, design, *one, device, fetch) for one in request.encoders)
    for family in made:
        require_source(store, family.modality, family.encoder.name, views.ids.tolist())
    sources, recipes = Sources(store), {}
    for family in made:
        for training in design.trainings:
            media = None
            if family.modality != "text" and card.finished(family.checkpoint(training)) is None:
                media = sources.by_utterance(family.modality)
            recipes[family.checkpoint(training)] = recipe_of(
                request, store, labels, design, family.encoder, training, media
            )
    job = Job(request, store, labels, design, made, recipes, notes)
    for family in made:
        _refuse_taught(views, design, group, family)
        _refuse_other(job, family)
    return job


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
    if request.design == "nested":
        return nested(rows, outer, seed=request.seed, validation=share, group=group)
    return three_way(rows, outer, seed=request.seed, validation=share, group=group, aligned=request.align)


def _family(
    store: Store, request: Request, design: Design, modality: str, spec: str, device: str, fetch: bool
) -> Family:
    asked = specs.parse(spec, f"--{modality}")
    if asked.readouts:
        raise UsageError(
            f"--{modality} {spec}: an encoder is trained at its own layer and pooling: write {asked.name}"
        )
    revision = request.revisions.get(asked.name, "")
    encoder = make_encoder(modality, spec, revision=revision, device=device, fetch=fetch)
    if not isinstance(encoder, TransformerEncoder):
        raise UsageError(f"--{modality} {spec}: has no network that could be trained: use a transformer")
    check_trainable(encoder, request.settings)
    name = checked_name(f"{encoder.name}.{request.name}", f"--{modality} {spec}: feature set")
    return Family(encoder, name, store.inside("encoders", modality), design)


def _refuse_taught(views: Views, design: Design, group: str | None, family: Family) -> None:
    """Refuse to begin with weights that know rows that the design tests, or their groups, whatever is trained after.

    Of a predefined split, which may share groups, `fit-heads` asks.
    """
    encoder = family.encoder
    tested = {one for member in design.members for one in member.test_ids}
    if taught := sorted(tested.intersection(encoder.trained_on)):
        raise UsageError(
            f"--{encoder.modality} {encoder.name}: its weights were trained on {len(taught)} of the utterances that "
            f"would be tested, e.g. {', '.join(taught[:3])}: begin with weights that saw none of them"
        )
    if group is None or design.kind == "split":
        return
    by_id = views.groups_in_corpus(group)
    known = {by_id[one] for one in by_id.keys() & encoder.trained_on}
    if shared := sorted(known.intersection(by_id[one] for one in tested)):
        raise UsageError(
            f"--{encoder.modality} {encoder.name}: its weights were trained on others of {group} "
            f"{', '.join(shared[:3])}, of whom utterances would be tested ({len(shared)} in all): begin with weights "
            "that saw none of them"
        )


def _refuse_other(job: Job, family: Family) -> None:
    """Refuse where something else was made under this name."""
    key, known = f"{family.modality}/{family.name}", job.store.feature_sets()
    others = {*families(known).get(key, []), key}.intersection(known).difference(family.keys)
    if others:
        raise UsageError(
            f"{min(others)}: made by another design or number of folds under this name; give the new ones a name of "
            "their own (--name), or remove them"
        )
    for training in job.design.trainings:
        final, working = family.checkpoint(training), family.working(training)
        done, begun = card.finished(final), working / card.RECIPE
        now = job.recipes[final]
        if done is not None:
            card.refuse_other(final, _without_media(done["recipe"]), _without_media(now))
        elif begun.is_file():
            there = read_json(begun)
            card.refuse_other(working, _without_media(there), _without_media(now))
            if there.get(MEDIA) != now.get(MEDIA):
                raise UsageError(
                    f"{working}: recordings have changed, or are gone, since this training was broken off: put back "
                    "those that it began with, or remove the folder to begin it again"
                )


def _without_media(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != MEDIA}
