"""Which device a network runs on."""

from __future__ import annotations

from collections.abc import Iterable

from mixed_signals.store.errors import UsageError


def pick_device(name: str) -> str:
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
        raise UsageError(f"--device {name!r}: use auto, cpu, cuda, cuda:<number> or mps") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (index or 0) >= there.get(kind, 0):
        raise UsageError(
            f"--device {name}: torch {torch.__version__} finds {there.get(kind, 0)} of this kind here; "
            "use --device cpu, or install the build of torch for your GPU"
        )
    return name


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
            chosen.append(pick_device(name))
            continue
        if not torch.cuda.device_count():
            raise UsageError("--devices all: torch finds no GPU here; use --device cpu")
        chosen += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return chosen
