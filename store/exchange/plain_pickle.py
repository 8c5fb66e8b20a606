"""Pickles of plain data, read without running anything they name.

A pickle is a program that may call any function by name. Here it can name only what numpy writes for its arrays, and
even that is answered by stand-ins of our own: they check type, shape and size before they make an array, and hand the
pickle no numpy object that it could misuse. The opcodes are walked through once beforehand, so that no length or memo
index reaches beyond the file, and no key of a dict is a tuple: a few bytes can nest tuples so that to hash or print one
takes for ever. For the same reason no message shows what a pickle made, unless it is text.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.store.errors import UsageError
from mixed_signals.store.exchange.matrices import one_line, unreadable

_UNUSED_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER"} | {
    "DUP",
    "EMPTY_SET",
    "FROZENSET",
    "ADDITEMS",
}
_PUT_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET_OPCODES = {"GET", "BINGET", "LONG_BINGET"}
_TUPLE_OPCODES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_DEEPEST = 8  # tuples in tuples: an array's state takes 2
_MOST_AXES = 64  # that numpy takes


class Refused(Exception):  # noqa: N818
    """The pickle holds what is not taken."""


class PickledArray:
    """A numpy array as the pickle describes it; `values` is the array itself."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, fortran, data = state
        self.values = _checked_array(data, kind, shape, "F" if fortran else "C")


def load_plain_pickle(source: Path) -> Any:
    """Read a pickle of dicts, lists, tuples, text, bytes, numbers and numpy arrays.

    Returns
    -------
    object
        What was pickled, with a `PickledArray` in the place of every array.

    Raises
    ------
    UsageError
        If the pickle names anything else; the message says what.
    MixedSignalsError
        If the file is damaged, or no pickle.
    """
    try:
        with source.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk(data, _UNUSED_OPCODES)
            data.seek(0)
            return _PlainUnpickler(data).load()
    except Refused as error:
        raise UsageError(
            f"{source}: refused: {one_line(str(error))}; read are dicts, lists, text, numbers and numpy arrays. "
            "Save the vectors as .npz with utterance_id and embedding instead"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise unreadable(source, error) from error


def walk(data: mmap.mmap | bytes, unused: Collection[str]) -> None:
    """Refuse what plain data has no use for and would make the unpickler allocate or compute for nothing.

    The unpickler's stack is followed; of each object it holds no more than how deep it nests tuples.

    Parameters
    ----------
    data : bytes
        The pickle.
    unused : collection of str
        Opcodes that are refused.

    Raises
    ------
    Refused
        Saying what.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):  # type: ignore[arg-type]
        name, taken = opcode.name, opcode.stack_before
        if name in unused:
            raise Refused(f"it uses the opcode {name}")
        if name in _PUT_OPCODES:
            index = len(memo) if argument is None else int(argument)
            if index > count + 1:
                raise Refused(f"it uses the memo index {index:,} after {count:,} steps")
            memo[index] = stack[-1]
        elif name in _GET_OPCODES:
            stack.append(memo[int(argument or 0)])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "POP" and marks[-1:] == [len(stack)]:
            marks.pop()
        elif pickletools.markobject in taken:
            begin = marks.pop()
            items = stack[begin:]
            del stack[begin - taken.index(pickletools.markobject) :]
            if name in ("DICT", "SETITEMS"):
                _refuse_tuples(items[::2])
            stack += _made(opcode, items)
        elif taken:
            items = stack[-len(taken) :]
            del stack[-len(taken) :]
            if name == "SETITEM":
                _refuse_tuples(items[1:2])
            stack += _made(opcode, items)
        else:
            stack += _made(opcode, [])


def _refuse_tuples(keys: list[int]) -> None:
    if any(keys):
        raise Refused("it has a tuple as the key of a dict")


def _made(opcode: pickletools.OpcodeInfo, items: list[int]) -> list[int]:
    """Return how deep tuples are nested in each object that an opcode puts on the stack, made of these items."""
    if opcode.name not in _TUPLE_OPCODES:
        return [0] * len(opcode.stack_after)
    depth = 1 + max(items, default=0)
    if depth > _DEEPEST:
        raise Refused(f"it has tuples in tuples, more than {_DEEPEST} deep")
    return [depth]


class _Name:
    """What stands in for something that a pickle names: it can be called, and nothing else."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes what it only may call")

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("it changes what it only may call")


class _Kind:
    """A numpy type as the pickle describes it: whole and real numbers, text, or objects (which must be text)."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        self.dtype = np.dtype(name) if isinstance(name, str) else np.dtype("V1")
        if self.dtype.kind not in "biufSUO" or self.dtype.names or self.dtype.subdtype:
            raise Refused(
                f"it holds an array of type {name if isinstance(name, str) else type(name).__name__}"
            )

    def __setstate__(self, state: Any) -> None:
        order, inner = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or inner != (None, None, None):
            raise Refused("it holds an array of a made-up type")
        self.dtype = self.dtype.newbyteorder(order)


def _checked_array(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Return an array over bytes, or of a list of text, whose size is what its shape says."""
    if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise Refused("it holds an array without type or shape")
    if len(shape) > _MOST_AXES or not all(type(length) is int and 0 <= length < 1 << 63 for length in shape):
        raise Refused("it holds an array of a shape that cannot be")
    dtype, count = kind.dtype, math.prod(shape)
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != count or not all(type(text) is str for text in data):
            raise Refused("it holds an array of objects that are not text")
        return np.array(data, dtype=object).reshape(shape, order=order)
    if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
        raise Refused(f"it holds an array of shape {shape} with other bytes than that takes")
    if not dtype.itemsize:
        raise Refused("it holds an array of empty texts")
    if dtype.kind == "U" and (np.frombuffer(data, dtype.byteorder.replace("|", "=") + "u4") > 0x10FFFF).any():
        raise Refused("it holds text that is not Unicode")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray(np.empty(0))


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
    return PickledArray(_checked_array(data, kind, shape, order))


def _scalar(kind: Any, data: Any = None) -> Any:
    return _checked_array(data, kind, (1,), "C").item()


def _encode(text: Any, encoding: Any = None) -> bytes:
    """Return bytes as protocol 2 and below write them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it encodes as something else than latin1")
    return text.encode("latin1")


def _not_called(*_: Any) -> Any:
    raise Refused("it makes an array by a call that numpy does not write")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _not_called,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _NAMES[f"{_core}.multiarray", "scalar"] = _scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        call = _NAMES.get((module, name))
        if call is None:
            raise Refused(f"it names {module}.{name}, which is code, not data")
        return _Name(call)
