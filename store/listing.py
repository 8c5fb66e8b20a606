"""What a store holds, as plain values that a table or JSON can show; quick, however many rows there are."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.features import FeatureSet
from mixed_signals.store.files import read_json
from mixed_signals.store.folder import Store
from mixed_signals.store.verify import own_file


def describe_corpus(store: Store) -> dict[str, str]:
    """Describe the corpus of a store as it was when it was imported: its ``name`` and a ``summary`` in lines."""
    return {"name": store.described["name"], "summary": store.described["summary"]}


def list_feature_sets(store: Store) -> list[dict[str, Any]]:
    """Describe every feature set of a store by what its file's head says; no id, reason or vector is read.

    Returns
    -------
    list of dict
        ``key`` and, where the file can be read, ``dimensions``, ``dtype``, ``bytes``, ``files`` (more than one where
        the vectors lie in shards; ``bytes`` are those of all of them), ``coverage`` (rows by status),
        ``recipe_fingerprint``, ``versions`` (of the libraries it was last made with), ``imported_from`` (empty for
        vectors made here) and ``aligned`` (`FeatureSet.aligned`); ``error`` where it cannot.
    """
    found = []
    for key in store.feature_sets():
        try:
            found.append(_summary(store[key]))
        except MixedSignalsError as error:
            found.append({"key": key, "error": str(error)})
    return found


def list_shards(store: Store) -> list[dict[str, Any]]:
    """Describe every shard that is not merged, and from which no feature set reads, by what its file's head says.

    Returns
    -------
    list of dict
        ``key`` (of the feature set that it belongs to), ``number``, ``of`` and, where the file can be read, ``bytes``
        and ``coverage``; ``error`` where it cannot.
    """
    found: list[dict[str, Any]] = []
    for key, shards in store.unmerged().items():
        for shard in shards:
            one = {"key": key, "number": shard.number, "of": shard.of}
            try:
                features = FeatureSet(own_file(store, shard.path))
                one |= {"bytes": features.path.stat().st_size, "coverage": features.coverage}
            except (MixedSignalsError, OSError) as error:
                one["error"] = str(error)
            found.append(one)
    return found


def list_runs(store: Store) -> list[dict[str, Any]]:
    """Describe every run of a store.

    Returns
    -------
    list of dict
        ``name`` and, where the run can be read, ``made`` (time, ISO 8601), ``models``, ``utterances``, ``target``,
        ``features`` (names by modality) and ``overrides`` (what is said wherever the run is shown); ``error`` where it
        cannot.
    """
    found: list[dict[str, Any]] = []
    for name in store.runs():
        try:
            found.append({"name": name, **_run_summary(store, name)})
        except (MixedSignalsError, OSError) as error:
            found.append({"name": name, "error": str(error)})
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            fault = f"not as fit-heads writes them ({type(error).__name__}: {error}); fit the run again"
            found.append({"name": name, "error": f"runs/{name}: run.json or metrics.json are {fault}"})
    return found


def _run_summary(store: Store, name: str) -> dict[str, Any]:
    run, metrics = (store.run_path(name) / file for file in ("run.json", "metrics.json"))
    info, rows = (read_json(own_file(store, path)) for path in (run, metrics))
    models, target, n = {row["model"] for row in rows}, info["target"], info["n_utterances"]
    features = {modality: one["name"] for modality, one in info["features"].items()}
    overrides = list(info.get("overrides", ()))
    texts = (target, *features.values(), *overrides)
    if not isinstance(n, int) or not all(isinstance(text, str) for text in texts):
        raise TypeError("a number or a text is of another type")
    made = datetime.fromtimestamp(run.stat().st_mtime, UTC).astimezone()
    return {
        "made": made.isoformat(timespec="seconds"),
        "models": len(models),
        "utterances": n,
        "target": target,
        "features": features,
        "overrides": overrides,
    }


def describe_features(features: FeatureSet) -> dict[str, Any]:
    """Describe one feature set in full: where it comes from, its dimensions and the rows without a vector."""
    return {
        **_summary(features),
        "path": str(features.path),
        "recipe": asdict(features.recipe),
        "provenance": {name: said for name, said in features.provenance.items() if name != "recipe"},
        "content_fingerprint": features.content_fingerprint,
        "dimension_names": features.dimensions.tolist(),
        "jobs": features.jobs,
        "gaps": [
            {"status": status.name.lower(), "reason": reason, "ids": ids}
            for status, reason, ids in features.gaps()
        ],
    }


def _summary(features: FeatureSet) -> dict[str, Any]:
    versions = features.provenance.get("versions", [])
    return {
        "key": features.key,
        "dimensions": features.shape[1],
        "dtype": str(features.dtype),
        "bytes": sum(file.stat().st_size for file in features.files),
        "files": len(features.files),
        "coverage": features.coverage,
        "recipe_fingerprint": features.recipe_fingerprint,
        "versions": versions[-1] if versions else {},
        "imported_from": features.provenance.get("imported_from", ""),
        "aligned": features.aligned,
    }
