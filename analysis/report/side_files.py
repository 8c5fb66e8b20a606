"""Side files: what the page's scripts know, as classic scripts of one call each.

From the file system a browser refuses ``fetch`` and modules, but runs ``<script src>``. So every side file is one line,
``MixedSignals.receive("rows", {...});``, whose value is JSON in ASCII: no text of a corpus can end it, whatever it
holds.

Columns of categories and numbers are whole numbers in typed arrays (little-endian, deflated, base64), for 100,000 rows
are read as fast as they are short. A script gets them back by::

    const inflate = async (text) => {
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      return new Response(stream).arrayBuffer();
    };

and reads the buffer as ``Uint8Array``, ``Uint16Array`` or ``Uint32Array`` by ``bytes``:

- ``text``: ``values``, the strings as they are;
- ``category``: ``levels`` and ``codes``, numbers of levels; the highest code of the width has no value;
- ``number``: ``low``, ``step`` and ``values``: a number is ``low + step * code``, and the highest code of the width is
  none. Whole numbers are kept as they are, others to a power of ten that keeps four digits of their range or more.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

PART_SIZE = 256
"""Utterances of a part."""
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_NONE = {
    1: 2**8 - 1,
    2: 2**16 - 1,
    4: 2**32 - 1,
}  # by bytes of a code: the highest, which stands for no value

Column = dict[str, Any]


def encode(value: Any) -> str:
    r"""Return a value as JSON in ASCII.

    Raises
    ------
    ValueError
        If a number in it is not finite, which JSON does not have.

    Examples
    --------
    >>> print(encode({"text": "\u2028</script>\ud800"}))
    {"text":"\u2028</script>\ud800"}
    """
    return _ENCODER.encode(value)


def write_side_file(folder: Path, name: str, encoded: str) -> None:
    """Write a value that `encode` returned for ``MixedSignals.load(name)``: into a folder, as ``<name>.js``."""
    (folder / f"{name}.js").write_text(f"MixedSignals.receive({encode(name)},{encoded});\n", encoding="ascii")


def part_name(number: int) -> str:
    """Return the name of a part's side file.

    Examples
    --------
    >>> part_name(3)
    'part-00003'
    """
    return f"part-{number:05d}"


def text_column(name: str, label: str, values: ArrayLike) -> Column:
    """Return a column of texts; `label` is for a header."""
    said = ["" if value is None else str(value) for value in np.asarray(values, dtype=object)]
    return {"name": name, "label": label, "type": "text", "values": said}


def category_column(name: str, label: str, values: ArrayLike, levels: Sequence[str] = ()) -> Column:
    """Return a column of categories.

    Parameters
    ----------
    name, label : str
        Its key, and words for a header.
    values : array-like of shape (n,)
        Missing (None, NaN) where there is no value; any other is one of `levels`.
    levels : sequence of str
        In the order in which they are listed; those that occur, sorted, where there are none given.
    """
    if levels:
        codes = _index(levels).get_indexer(_index(values))
    else:
        codes, found = pd.factorize(np.asarray(values, dtype=object), sort=True)
        levels = [str(level) for level in found]
    n_bytes = next(size for size, none in _NONE.items() if len(levels) <= none)
    head = {"name": name, "label": label, "type": "category", "levels": list(levels), "bytes": n_bytes}
    return head | {"codes": _packed(np.where(codes < 0, _NONE[n_bytes], codes), n_bytes)}


def _index(values: ArrayLike) -> pd.Index:
    return pd.Index(
        np.asarray(values, dtype=object), dtype=object
    )  # as str, halves of characters are refused


def number_column(name: str, label: str, values: ArrayLike) -> Column:
    """Return a column of numbers, NaN where there is none; see the module's text on how many digits it keeps."""
    numbers = np.asarray(values, dtype=np.float64)
    known = np.isfinite(numbers)
    low, high = (numbers[known].min(), numbers[known].max()) if known.any() else (0.0, 0.0)
    whole = high - low < _NONE[4] and bool((numbers[known] % 1 == 0).all())
    step = 1.0 if whole else _step(high - low or abs(low))
    low = math.floor(low / step) * step
    codes = np.round((np.where(known, numbers, low) - low) / step)
    n_bytes = next(size for size, none in _NONE.items() if codes.max(initial=0) < none)
    head = {
        "name": name,
        "label": label,
        "type": "number",
        "bytes": n_bytes,
        "low": float(f"{low:.12g}"),
        "step": step,
    }
    return head | {"values": _packed(np.where(known, codes, _NONE[n_bytes]), n_bytes)}


def _step(spread: float) -> float:
    """Return the smallest power of ten of which so many make up the spread that two bytes can count them."""
    return float(f"1e{math.ceil(math.log10(spread / (_NONE[2] - 2)))}")


def _packed(codes: NDArray[Any], n_bytes: int) -> str:
    return base64.b64encode(zlib.compress(codes.astype(f"<u{n_bytes}").tobytes())).decode("ascii")
