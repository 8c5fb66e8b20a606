"""The store: a folder with one corpus, its feature sets and its runs.

::

    my.store/
      corpus.json  utterances.parquet  ratings.parquet
      features/<modality>/<name>.h5  .shards/<name>.<i>of<n>.h5
      runs/<name>/ run.json predictions.parquet gates.parquet metrics.json heads/ analysis/
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mixed_signals.store.corpus import MODALITIES, Corpus, as_media_root
from mixed_signals.store.cross_fits import alignment_notes
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet
from mixed_signals.store.files import checked_name, read_json, read_parquet, write_json, write_parquet
from mixed_signals.store.provenance import file_hash
from mixed_signals.store.targets import Target

if TYPE_CHECKING:
    from mixed_signals.store.views import Views

FORMAT = 2
_STAGED = ".new-"
_SHARD = re.compile(r"([A-Za-z0-9].*)\.([1-9]\d*)of([1-9]\d{0,4})\.h5")
_DESCRIBED = {"name": str, "media_root": str | None, "targets": list, "summary": str, "tables": dict}


class ShardFile(NamedTuple):
    """One of the files in which an array job makes a feature set: shard `number` of `of`, counted from 1."""

    number: int
    of: int
    path: Path

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class Store:
    """One corpus with its feature sets and runs. Made by `Store.create` or `Store.open`.

    Examples
    --------
    >>> store = Store.open("my.store")  # doctest: +SKIP
    >>> store["text/minilm"]  # doctest: +SKIP
    <FeatureSet text/minilm: 480 x 384 float32 (480 ok)>
    >>> views = store.views(text="minilm", audio="egemaps")  # doctest: +SKIP
    """

    def __init__(self, path: Path, media_root: Path | str | None = None) -> None:
        self.path = path
        self.media_root = media_root

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
        elif store.path.exists() and any(store.path.iterdir()):
            raise UsageError(
                f"{path}: exists and is not empty; name a new folder (or remove this one, if making a store in it was "
                "interrupted)"
            )
        store._take_staged()
        tables = {"utterances.parquet": corpus.utterances}
        if corpus.ratings is not None:
            tables["ratings.parquet"] = corpus.ratings
        for name, table in tables.items():
            write_parquet(store.path / f"{_STAGED}{name}", table)
        root = corpus.media_root
        described = {
            "format": FORMAT,
            "name": corpus.name,
            "media_root": str(root.resolve()) if isinstance(root, Path) else root,
            "targets": [asdict(target) for target in corpus.targets],
            "summary": str(corpus),
            "tables": {name: file_hash(store.path / f"{_STAGED}{name}") for name in tables},
        }
        write_json(store.path / f"{_STAGED}corpus.json", described)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, media_root: str | Path | None = None) -> Store:
        """Open the store in a folder.

        Parameters
        ----------
        path : path
        media_root : path or URL, optional
            Where the media are now, if not where the corpus says.

        Raises
        ------
        UsageError
            If the folder holds no store, or the media root is neither a folder nor a URL that is taken.
        """
        store = cls(Path(path), None if media_root is None else as_media_root(media_root))
        store._take_staged()
        if not (store.path / "corpus.json").is_file():
            raise UsageError(f"{path}: no store here (make one with: mixed-signals corpus import)")
        if isinstance(store.media_root, Path) and not store.media_root.is_dir():
            raise UsageError(f"{media_root}: the media root is not a folder (--media-root)")
        return store

    def _take_staged(self) -> None:
        """Put a corpus that was written beside the present one in its place, also where a killed process left it.

        Its description is written last and taken last: while it waits, all of the new corpus is there.
        """
        described = self.path / f"{_STAGED}corpus.json"
        if not described.is_file():
            return
        try:
            tables = list(read_json(self.inside(described.name))["tables"])
        except (KeyError, TypeError):
            tables = []
        if "utterances.parquet" not in tables:
            raise MixedSignalsError(f"{described}: not readable; remove it")
        for name in ("utterances.parquet", "ratings.parquet", "corpus.json"):
            staged = self.path / f"{_STAGED}{name}"
            if name in (*tables, "corpus.json"):
                with suppress(FileNotFoundError):  # taken already
                    os.replace(staged, self.path / name)
            else:
                staged.unlink(missing_ok=True)
                (self.path / name).unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<Store {self.path}>"

    def __str__(self) -> str:
        lines = [f"store {self.path}", str(self.described["summary"])]
        aligned = []
        for key in self.feature_sets():
            try:
                features = self[key]
                lines.append(repr(features))
                aligned += [key] if features.aligned else []
            except MixedSignalsError as error:
                lines.append(str(error))
        if not self.feature_sets():
            lines.append("no feature sets yet")
        lines += alignment_notes(aligned)
        runs = self.runs()
        lines.append("runs: " + ", ".join(runs) if runs else "no runs yet")
        return "\n".join(lines)

    @cached_property
    def described(self) -> dict[str, Any]:
        """What ``corpus.json`` says: name, media root, targets, a summary, the tables' checksums. No table is read."""
        described = read_json(self.inside("corpus.json"))
        if not isinstance(described, dict) or described.get("format") != FORMAT:
            raise MixedSignalsError(
                f"{self.path}: corpus.json is not of a store of format {FORMAT}; import the corpus again with --replace"
            )
        wrong = [key for key, type_ in _DESCRIBED.items() if not isinstance(described.get(key), type_)]
        if wrong or "utterances.parquet" not in described["tables"]:
            raise MixedSignalsError(
                f"{self.path}: corpus.json is not readable (at {(wrong or ['tables'])[0]})"
            )
        return described

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus, read and validated on first use.

        Raises
        ------
        MixedSignalsError
            If a table is not the one that ``corpus.json`` was written with, or breaks the rules of a corpus.
        """
        described, tables = self.described, {}
        for name in ("utterances.parquet", "ratings.parquet"):
            expected = described["tables"].get(name)
            if expected is None:
                continue
            path = self.inside(name)
            if not path.is_file() or file_hash(path) != expected:
                raise MixedSignalsError(
                    f"{path}: does not belong to corpus.json (changed, or an import was interrupted); import the "
                    "corpus again with --replace"
                )
            tables[name] = read_parquet(path)
        return Corpus(
            name=described["name"],
            utterances=tables["utterances.parquet"],
            ratings=tables.get("ratings.parquet"),
            media_root=self.media_root or self._declared_media_root(),
            declared=self._declared_targets(),
        )

    def _declared_media_root(self) -> Path | str | None:
        root: str | None = self.described["media_root"]
        return root if root is None or "://" in root else self.path / root

    def _declared_targets(self) -> tuple[Target, ...]:
        try:
            return tuple(Target(**one) for one in self.described["targets"])
        except (TypeError, ValueError) as error:
            raise MixedSignalsError(
                f"{self.path}: corpus.json: a target is not readable ({error})"
            ) from error

    def inside(self, *parts: str) -> Path:
        """Return the path of a file of this store.

        Raises
        ------
        MixedSignalsError
            If a symbolic link leads out of the store.
        """
        path = self.path.joinpath(*parts)
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise MixedSignalsError(f"{path}: refused: a link that leads out of the store")
        return path

    def feature_path(self, modality: str, name: str) -> Path:
        """Return the file of a feature set, whether it is there or not.

        Raises
        ------
        UsageError
            If the modality is none of text, audio, video, or the name cannot be a file's.
        """
        if modality not in MODALITIES:
            raise UsageError(f"modality {modality!r}: use text, audio or video")
        return self.inside("features", modality, f"{checked_name(name, 'feature set')}.h5")

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

    def shard_path(self, modality: str, name: str, number: int, of: int) -> Path:
        """Return the file of one shard of a feature set, whether it is there or not.

        Parameters
        ----------
        modality, name : str
            The feature set that the shards are to be.
        number, of : int
            Which shard, from 1, of how many.

        Raises
        ------
        UsageError
            If there is no such shard, modality or name.
        """
        if not 1 <= number <= of:
            raise UsageError(f"--shard {number}/{of}: write i/n, i from 1 to n")
        path = self.feature_path(modality, name)
        return self.inside(*path.relative_to(self.path).parts[:-1], ".shards", f"{name}.{number}of{of}.h5")

    def shards(self) -> dict[str, list[ShardFile]]:
        """Return the shards that are not merged yet, in order, by the key of the feature set they belong to."""
        found: dict[str, list[ShardFile]] = {}
        for modality in MODALITIES:
            for path in sorted((self.path / "features" / modality / ".shards").glob("*.h5")):
                if match := _SHARD.fullmatch(path.name):
                    shard = ShardFile(int(match[2]), int(match[3]), path)
                    found.setdefault(f"{modality}/{match[1]}", []).append(shard)
        return {
            key: sorted(shards, key=lambda shard: (shard.of, shard.number)) for key, shards in found.items()
        }

    def unmerged(self) -> dict[str, list[ShardFile]]:
        """Return those of `shards` from which no feature set reads its vectors."""
        return {key: shards for key, shards in self.shards().items() if not self._reads_shards(key)}

    def _reads_shards(self, key: str) -> bool:
        try:
            return key in self.feature_sets() and self[key].virtual
        except MixedSignalsError:
            return False

    def __getitem__(self, key: str) -> FeatureSet:
        modality, slash, name = key.partition("/")
        if not slash:
            raise UsageError(f"feature set {key!r}: write <modality>/<name>, e.g. text/minilm")
        path = self.feature_path(modality, name)
        if not path.is_file():
            known = ", ".join(self.feature_sets()) or "none yet; make one with extract-features"
            if key in self.shards():
                known += "; its shards are there: mixed-signals store merge makes one of them"
            raise UsageError(f"no feature set {key!r} in {self.path} (feature sets: {known})")
        features = FeatureSet(path)
        if features.modality != modality:
            raise MixedSignalsError(
                f"{path}: is a feature set of {features.modality}; move it to that folder"
            )
        features.check_files()
        return features

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
            Name (or key) of one feature set for each modality to use.
        target : str
            A declared target, or any column of labels.
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
        chosen = {
            modality: self[f"{modality}/{name.removeprefix(f'{modality}/')}"]
            for modality, name in names.items()
            if name
        }
        return join(self.corpus, chosen, target=target, missing=missing)

    def runs(self) -> list[str]:
        """Return the names of the runs, sorted."""
        return sorted(path.parent.name for path in (self.path / "runs").glob("[!.]*/run.json"))

    def run_path(self, name: str, *parts: str) -> Path:
        """Return the folder of a run, or the path of something in it, whether it is there or not."""
        return self.inside("runs", checked_name(name, "run"), *parts)
