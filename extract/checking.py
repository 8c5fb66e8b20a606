"""The self-test: an utterance gets the same vector in company as alone.

Padding must not change what a vector means. An encoder says whether it does; this takes utterances of very different
lengths, encodes them at once and one by one, and compares.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

from mixed_signals.extract.encoders.base import Encoded
from mixed_signals.extract.encoders.passes import PassEncoder
from mixed_signals.extract.job import clips_of, rough_lengths
from mixed_signals.extract.reading import reading
from mixed_signals.store import MixedSignalsError, Status, Store

TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""How far apart two vectors may be, as a part of their length, by the precision of computing."""


class Checked(NamedTuple):
    """One feature set's self-test.

    Attributes
    ----------
    encoder, layer, pooling : str
    n : int
        How many utterances were compared.
    difference : float
        The largest distance between an utterance's two vectors, divided by the length of the one made alone.
    tolerance : float
    """

    encoder: str
    layer: str
    pooling: str
    n: int
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within tolerance."""
        return self.difference <= self.tolerance


def check(store: Store, encoder: PassEncoder, *, n: int = 16, workers: int = 1) -> list[Checked]:
    """Encode utterances together and alone; one result for each of the encoder's outputs.

    Parameters
    ----------
    store : Store
    encoder : PassEncoder
    n : int
        How many utterances, from the shortest to the longest of the corpus.
    workers : int
        Processes that decode.

    Raises
    ------
    MixedSignalsError
        If fewer than two of these utterances can be read.
    """
    lengths = rough_lengths(store, encoder.modality)
    picked = np.argsort(lengths, kind="stable")[np.linspace(0, len(lengths) - 1, n).round().astype(int)]
    clips = clips_of(store, with_media=encoder.modality != "text")
    rows = list(dict.fromkeys(picked.tolist()))
    with reading([encoder.reader], clips, rows, workers=workers) as decoded:
        reads = [one.reads[0] for one in decoded]
    values = [read.value for read in reads if read.status == Status.OK]
    if len(values) < 2:
        raise MixedSignalsError(
            f"{encoder.name}: --check needs two utterances that can be read, and found {len(values)}"
        )
    encoder.load()
    try:
        alone = [encoder.encode(encoder.pack([value]))[0] for value in values]
        encoder.budget = sys.maxsize  # all in one pass, if their lengths may be mixed
        together = encoder.encode(encoder.pack(values))
    finally:
        encoder.close()
    pairs = [
        pair for pair in zip(together, alone, strict=True) if any(one.status == Status.OK for one in pair)
    ]
    if len(pairs) < 2:
        reason = next((one.reason for one in [*together, *alone] if one.reason), "")
        raise MixedSignalsError(f"{encoder.name}: --check could not encode what it read ({reason})")
    return [
        Checked(
            encoder=encoder.name,
            layer=output.recipe.layer,
            pooling=output.recipe.pooling,
            n=len(pairs),
            difference=float(np.max([_distance(*pair, number) for pair in pairs])),  # NaN counts
            tolerance=TOLERANCES[output.recipe.dtype],
        )
        for number, output in enumerate(encoder.outputs)
    ]


def _distance(one: Encoded, other: Encoded, number: int) -> float:
    """Return how far apart two vectors are; infinitely far if only one of them could be made."""
    if one.status != other.status:
        return float("inf")
    a, b = one.vectors[number], other.vectors[number]
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12))
