import io

import pandas as pd
import pytest
from rich.console import Console

from mixed_signals.analysis.outputs import write_tables
from mixed_signals.analysis.planted import compare, detection, odd_one_out, print_comparison

MODALITIES = ("text", "audio", "video")
UTTERANCES = pd.DataFrame(
    {
        "head": "gated",
        "utterance_id": list("abcdef"),
        "label_text": ["y", "n", "y", "y", "y", "n"],
        "label_audio": ["n", "n", "y", "y", "y", "y"],
        "label_video": ["n", "y", "y", "y", "n", "n"],
        "label_fusion": ["n", "n", "y", "y", "y", "n"],
        "label_true": ["n", "y", "y", "y", "y", "n"],
        "n_labels": [2, 2, 1, 1, 2, 2],
        "jsd": [0.5, 0.4, 0.0, 0.1, 0.3, 0.45],
        "vote_entropy": [1.0, 0.5, 0.0, 0.0, 0.2, 0.4],
    }
)
PLANTED = pd.DataFrame({"utterance_id": list("fedcba"), "conflict": ["", "", "", "", "video", "text"]})


def test_the_odd_one_out_is_the_one_that_all_others_contradict():
    assert list(odd_one_out(UTTERANCES, MODALITIES)) == ["text", "video", "", "", "video", "audio"]
    table = UTTERANCES.assign(label_text="p", label_audio="q", label_video="r")
    assert list(odd_one_out(table, MODALITIES)) == [""] * 6


def test_what_was_found_is_set_beside_what_was_planted_by_id():
    found = compare(UTTERANCES, PLANTED, MODALITIES).set_index("conflict")
    assert list(found.index) == ["text", "video", ""]
    assert list(found["n"]) == [1, 1, 4]
    assert found.loc["text", "odd_text"] == 1
    assert found.loc["video", "odd_video"] == 1
    assert found.loc["video", "wrong"] == 1
    assert found.loc["", ["odd_text", "odd_audio", "odd_video"]].tolist() == [0, 0.25, 0.25]
    assert found.loc["", "differ"] == 0.5
    assert found.loc["", "vote_entropy"] == pytest.approx(0.15)
    assert detection(UTTERANCES, PLANTED) == pytest.approx(7 / 8)  # of eight pairs, 0.45 beats 0.4 alone


@pytest.mark.parametrize("planted", [PLANTED, PLANTED.assign(conflict=""), PLANTED.assign(conflict="text")])
def test_it_is_printed_whatever_was_planted(tmp_path, planted):
    write_tables(tmp_path, {"utterances": UTTERANCES})
    planted.to_csv(tmp_path / "planted.csv", index=False)
    console = Console(file=io.StringIO(), width=80)
    print_comparison(console, tmp_path, tmp_path / "planted.csv", head="gated")
    said = console.file.getvalue()
    assert ("AUROC 0.88" in said) == (planted is PLANTED)
    assert ("nothing to compare" in said) == (planted is not PLANTED)
