"""What a training goes on from: written wholly or not at all."""

from full_disk import limited


def test_a_disk_that_is_full_is_said_in_a_sentence(tmp_path):
    path = tmp_path / "last.safetensors"
    script = """
import sys
from pathlib import Path
import torch
from mixed_signals.extract.finetune.state import State, write
write(Path(sys.argv[1]), {"x": torch.zeros(9999)}, State("r"))
"""
    last = limited(script, 4096, str(path)).stderr.strip().splitlines()[-1]
    assert f"MixedSignalsError: {path}: cannot be written" in last
    assert "make room and run the same command again" in last
    assert not list(tmp_path.iterdir())
