"""What a training goes on from: written wholly or not at all."""

import subprocess
import sys


def test_a_disk_that_is_full_is_said_in_a_sentence(tmp_path):
    said = "".join(
        (
            "import resource, sys, torch; from pathlib import Path; ",
            "from mixed_signals.extract.finetune.state import State, write; ",
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); ",
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); ",
            "write(Path(sys.argv[1]), {'x': torch.zeros(9999)}, State('r'))",
        )
    )
    path = tmp_path / "last.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", said, str(path)], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"MixedSignalsError: {path}: cannot be written" in last
    assert "make room and run the same command again" in last
    assert not list(tmp_path.iterdir())
