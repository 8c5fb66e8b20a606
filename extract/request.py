"""What one call of ``extract-features`` asks for, apart from the device; small enough to hand to other processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.encoders.base import Encoder
from mixed_signals.extract.job import Shard, Task, plan
from mixed_signals.store import FeatureSet, Store, UsageError
from mixed_signals.store.terminal import split_pairs


@dataclass(frozen=True)
class Request:
    """Which encoders, on which store, and how.

    Attributes
    ----------
    store : Path
    encoders : tuple of (modality, encoder)
        Each as it is written on the command line, ``NAME[:LAYERS[:POOLINGS]]``.
    media_root : Path or str, optional
        Where the media are now, if not where the corpus says.
    revisions : mapping of str to str
        Revisions of hub models, by the name that is asked for.
    dtype : str
        Precision of computing.
    frame_rate : float, optional
        Pictures a second, of video encoders.
    name, store_dtype, retry_failed
        As `plan` takes them.
    """

    store: Path
    encoders: tuple[tuple[str, str], ...]
    media_root: Path | str | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    frame_rate: float | None = None
    name: str = ""
    store_dtype: str = "float32"
    retry_failed: bool = False

    def open(self) -> Store:
        """Open the store."""
        return Store.open(self.store, media_root=self.media_root)

    def make_encoders(self, device: str = "auto", *, fetch: bool = True) -> list[Encoder]:
        """Return the encoders, without their networks loaded."""
        return [
            make_encoder(
                modality,
                spec,
                revision=self.revisions.get(spec.partition(":")[0], ""),
                device=device,
                dtype=self.dtype,
                frame_rate=self.frame_rate if modality == "video" else None,
                fetch=fetch,
            )
            for modality, spec in self.encoders
        ]

    def plan(self, store: Store, encoders: list[Encoder], shard: Shard | None = None) -> list[Task]:
        """Say what would be made.

        Raises
        ------
        UsageError
            As `mixed_signals.extract.job.plan` does; if a feature set is one of those of fine-tuned encoders.
        """
        tasks = plan(
            store,
            encoders,
            name=self.name,
            store_dtype=self.store_dtype,
            retry_failed=self.retry_failed,
            shard=shard,
        )
        for task in tasks:
            path = store.feature_path(*task.key.split("/"))
            if path.exists() and FeatureSet(path).cross_fitted:
                raise UsageError(
                    f"{path}: is of one fold, made by finetune-encoders, which brings it up to date where it is called "
                    "again; give what the checkpoint makes here a name of its own (--name)"
                )
        return tasks


def revisions_of(given: Sequence[str], encoders: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return revisions by the name of the model; a bare one belongs to the only encoder there is.

    Parameters
    ----------
    given : sequence of str
        As ``--revision`` has them: ``NAME=REVISION``.
    encoders : sequence of (modality, encoder)

    Raises
    ------
    UsageError
        If one is not written like that, or no encoder of its name is asked for.
    """
    names = [spec.partition(":")[0] for _, spec in encoders]
    if len(given) == len(names) == 1 and "=" not in given[0]:
        return {names[0]: given[0]}
    revisions = dict(split_pairs(given, "--revision"))
    for name in revisions:
        if name not in names:
            raise UsageError(
                f"--revision {name}=...: no encoder of that name is asked for ({', '.join(names)})"
            )
    return revisions
