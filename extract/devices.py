"""Which device a network runs on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mixed_signals.store.errors import UsageError


def pick_device(name: str, *, flag: str = "--device") -> str:
    """Return the device that is meant: for ``auto`` a GPU where there is one, else the processor.

    Raises
    ------
    UsageError
        If this machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind, index = torch.device(name).type, torch.device(name).index
    except RuntimeError:
        raise UsageError(f"{flag} {name!r}: use auto, cpu, cuda, cuda:<number> or mps") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (index or 0) >= there.get(kind, 0):
        raise UsageError(
            f"{flag} {name}: torch {torch.__version__} finds {there.get(kind, 0)} of this kind here; "
            f"use {flag} cpu, or install the build of torch for your GPU"
        )
    return name


def named_devices(several: Sequence[str] | None, one: str) -> list[str]:
    """Return the devices that ``--devices`` names, commas or repeated, or else the one of ``--device``.

    Raises
    ------
    UsageError
        If both are given, or this machine has no such device.
    """
    if not several:
        return [one]
    if one != "auto":
        raise UsageError("--device and --devices: use one of them")
    return pick_devices(name.strip() for value in several for name in value.split(","))  # one may come twice


def pick_devices(names: Iterable[str]) -> list[str]:
    """Return several devices; ``all`` stands for every GPU of this machine.

    Raises
    ------
    UsageError
        If this machine has no such device, or ``all`` finds no GPU.
    """
    import torch

    chosen = []
    for name in names:
        if name != "all":
            chosen.append(pick_device(name, flag="--devices"))
            continue
        if not torch.cuda.device_count():
            raise UsageError("--devices all: torch finds no GPU here; use --device cpu")
        chosen += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return chosen
