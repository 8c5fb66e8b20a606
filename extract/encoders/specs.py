"""How an encoder is written on the command line: ``NAME[:LAYERS[:POOLINGS]]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from mixed_signals.store.errors import UsageError

_LAYERS = re.compile(r"(?P<first>\d{1,3})(-(?P<last>\d{1,3}))?|last")


@dataclass(frozen=True)
class Spec:
    """An encoder, and what is read off it.

    Attributes
    ----------
    name : str
        A preset, a folder, or a name on the hub.
    layers, poolings : tuple of str
        Each with each; empty where the encoder's own is meant.
    """

    name: str
    layers: tuple[str, ...] = ()
    poolings: tuple[str, ...] = ()

    @property
    def readouts(self) -> list[tuple[str, str]]:
        """Layer and pooling of every feature set that is asked for by name, an empty text where it is left open."""
        if not (self.layers or self.poolings):
            return []
        return list(product(self.layers or ("",), self.poolings or ("",)))


def parse(text: str, flag: str) -> Spec:
    """Read an encoder as it is written on the command line.

    Parameters
    ----------
    text : str
        ``NAME``, ``NAME:9``, ``NAME:6-9`` (each of them), ``NAME:9+12+last:mean+std``, ``NAME::first`` (the last
        layer).
    flag : str
        Where it was written, for messages: ``--text``.

    Raises
    ------
    UsageError
        If it is not written like that.

    Examples
    --------
    >>> parse("hubert-base:8-9:mean+std", "--audio").readouts
    [('8', 'mean'), ('8', 'std'), ('9', 'mean'), ('9', 'std')]
    """
    name, *rest = text.split(":")
    if not name or len(rest) > 2 or (rest and not rest[-1]):
        raise UsageError(
            f"{flag} {text!r}: write NAME, NAME:LAYERS or NAME:LAYERS:POOLINGS, as in {_EXAMPLE}"
        )
    layers, poolings = (*rest, "", "")[:2]
    return Spec(name, _layers(layers, f"{flag} {text!r}"), _unique(poolings.split("+") if poolings else []))


_EXAMPLE = "roberta-base:9-12+last:mean+std"


def _layers(text: str, where: str) -> tuple[str, ...]:
    layers: list[str] = []
    for part in text.split("+") if text else []:
        found = _LAYERS.fullmatch(part)
        if found is None:
            raise UsageError(f"{where}: layers are numbers, ranges or last, as in {_EXAMPLE}, not {part!r}")
        if part == "last":
            layers.append(part)
            continue
        first, last = int(found["first"]), int(found["last"] or found["first"])
        if last < first:
            raise UsageError(f"{where}: layers {part} go down: write {last}-{first}")
        layers += map(str, range(first, last + 1))
    return _unique(layers)


def _unique(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
