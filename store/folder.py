"""The store: a folder with one corpus, its feature sets and its runs.

::

    my.store/
      corpus.json  utterances.parquet  ratings.parquet
      features/<modality>/<name>.h5
      runs/<name>/ run.json predictions.parquet gates.parquet metrics.json heads/ analysis/
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mixed_signals.store.corpus import MODALITIES, Corpus
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet
from mixed_signals.store.files import checked_name, read_json, read_parquet, write_json, write_parquet

if TYPE_CHECKING:
    from mixed_signals.store.views import Views

FORMAT = 1


class Store:
    """One corpus with its feature sets and runs. Made by `Store.create` or `Store.open`.

    Examples
    --------
    >>> store = Store.open("my.store")  # doctest: +SKIP
    >>> store["text/minilm"]  # doctest: +SKIP
    <FeatureSet text/minilm: 480 x 384 float32 (480 ok)>
    >>> views = store.views(text="minilm", audio="egemaps")  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: str | Path, corpus: Corpus, *, replace: bool = False) -> Store:
        """Make a store for `corpus` in a new folder.

        Parameters
        ----------
        path : path
        corpus : Corpus
        replace : bool
            Whether a store that is there gets this corpus instead of its own. Feature sets and runs stay;
            extraction then makes the rows whose text or media changed.

        Raises
        ------
        UsageError
            If the folder holds a store already (and `replace` is off), or anything else.
        """
        store = cls(Path(path))
        if store.path.exists() and not store.path.is_dir():
            raise UsageError(f"{path}: is a file; name a folder")
        if (store.path / "corpus.json").exists():
            if not replace:
                raise UsageError(f"{path}: holds a store already; --replace puts this corpus in its place")
            (store.path / "ratings.parquet").unlink(missing_ok=True)
        elif store.path.exists() and any(store.path.iterdir()):
            raise UsageError(f"{path}: exists and is not empty")
        write_parquet(store.path / "utterances.parquet", corpus.utterances)
        if corpus.ratings is not None:
            write_parquet(store.path / "ratings.parquet", corpus.ratings)
        write_json(
            store.path / "corpus.json",
            {
                "format": FORMAT,
                "name": corpus.name,
                "media_root": None if corpus.media_root is None else str(corpus.media_root.resolve()),
                "targets": [asdict(target) for target in corpus.targets],
            },
        )
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in a folder.

        Raises
        ------
        UsageError
            If the folder holds no store.
        """
        store = cls(Path(path))
        if not (store.path / "corpus.json").is_file():
            raise UsageError(f"{path}: no store here (make one with: mixed-signals corpus import)")
        return store

    def __repr__(self) -> str:
        return f"<Store {self.path}>"

    def __str__(self) -> str:
        lines = [f"store {self.path}", str(self.corpus)]
        lines += [repr(self[key]) for key in self.feature_sets()] or ["no feature sets yet"]
        runs = self.runs()
        lines.append("runs: " + ", ".join(runs) if runs else "no runs yet")
        return "\n".join(lines)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus, read and validated on first use."""
        described = read_json(self.path / "corpus.json")
        if described.get("format") != FORMAT:
            raise MixedSignalsError(f"{self.path}: a store of format {described.get('format')}, not {FORMAT}")
        ratings = self.path / "ratings.parquet"
        return Corpus(
            name=described["name"],
            utterances=read_parquet(self.path / "utterances.parquet"),
            ratings=read_parquet(ratings) if ratings.exists() else None,
            media_root=None if described["media_root"] is None else Path(described["media_root"]),
        )

    def feature_path(self, modality: str, name: str) -> Path:
        """Return the file of a feature set, whether it is there or not.

        Raises
        ------
        UsageError
            If the modality is none of text, audio, video, or the name cannot be a file's.
        """
        if modality not in MODALITIES:
            raise UsageError(f"modality {modality!r}: use text, audio or video")
        return self.path / "features" / modality / f"{checked_name(name, 'feature set')}.h5"

    def feature_sets(self) -> list[str]:
        """Return the keys of the feature sets, ``<modality>/<name>``, sorted."""
        files = [
            file
            for modality in MODALITIES
            for file in sorted((self.path / "features" / modality).glob("*.h5"))
        ]
        return [
            f"{file.parent.name}/{file.name.removesuffix('.h5')}" for file in files if file.name[0] != "."
        ]

    def __getitem__(self, key: str) -> FeatureSet:
        modality, slash, name = key.partition("/")
        if not slash:
            raise UsageError(f"feature set {key!r}: write <modality>/<name>, e.g. text/minilm")
        path = self.feature_path(modality, name)
        if not path.is_file():
            known = ", ".join(self.feature_sets()) or "none yet; make one with extract-features"
            raise UsageError(f"no feature set {key!r} in {self.path} (feature sets: {known})")
        return FeatureSet(path)

    def views(
        self,
        *,
        text: str | None = None,
        audio: str | None = None,
        video: str | None = None,
        target: str = "label",
        missing: Literal["drop", "mask"] = "drop",
    ) -> Views:
        """Join feature sets and labels by utterance id.

        Parameters
        ----------
        text, audio, video : str, optional
            Name of one feature set for each modality to use.
        target : str
            The label column.
        missing : {"drop", "mask"}
            Keep only utterances with every modality, or keep those with at least one.

        Raises
        ------
        UsageError
            If a feature set is not there.
        MixedSignalsError
            If a feature set was made for other utterances, or no utterance is left.
        """
        from mixed_signals.store.views import join

        names = {"text": text, "audio": audio, "video": video}
        chosen = {modality: self[f"{modality}/{name}"] for modality, name in names.items() if name}
        return join(self.corpus, chosen, target=target, missing=missing)

    def runs(self) -> list[str]:
        """Return the names of the runs, sorted."""
        return sorted(path.parent.name for path in (self.path / "runs").glob("[!.]*/run.json"))

    def run_path(self, name: str) -> Path:
        """Return the folder of a run, whether it is there or not."""
        return self.path / "runs" / checked_name(name, "run")
