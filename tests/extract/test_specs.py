"""How an encoder is written, and which encoder that is."""

import json

import pytest

from mixed_signals.extract.encoders import NETWORKS, PRESETS, make_encoder, on_this_machine
from mixed_signals.extract.encoders.specs import parse
from mixed_signals.extract.listing import print_encoders
from mixed_signals.store import MixedSignalsError, UsageError

pytestmark = pytest.mark.usefixtures("own_caches")


@pytest.mark.parametrize(
    ("text", "readouts"),
    [
        ("a/b", []),
        ("a/b:9", [("9", "")]),
        ("a/b:9:mean", [("9", "mean")]),
        ("a/b::first", [("", "first")]),
        ("a/b:6-8", [("6", ""), ("7", ""), ("8", "")]),
        ("a/b:0+last:mean+std", [("0", "mean"), ("0", "std"), ("last", "mean"), ("last", "std")]),
        ("a/b:8-9+9+8:max+max", [("8", "max"), ("9", "max")]),
    ],
)
def test_layers_and_poolings_are_read(text, readouts):
    assert parse(text, "--text").name == "a/b"
    assert parse(text, "--text").readouts == readouts


@pytest.mark.parametrize(
    "text", ["", ":9", "x:", "x:9:", "x:9:mean:std", "x:-1", "x:9-", "x:9-6", "x:a", "x:9++8", "x:9999"]
)
def test_what_is_written_otherwise_is_refused_by_name(text):
    with pytest.raises(UsageError) as caught:
        parse(text, "--text")
    assert str(caught.value).startswith(f"--text {text!r}: ")
    assert "\n" not in str(caught.value)


@pytest.fixture
def checkpoint(tmp_path):
    """Write a folder that is a checkpoint of a type, as far as anyone looks before its weights are loaded."""

    def write(name, **config):
        import torch
        from safetensors.torch import save_file

        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
        return folder

    return write


BERT = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "max_position_embeddings": 32}


def test_a_folder_is_an_encoder_with_a_feature_set_for_each_readout(checkpoint):
    folder = checkpoint("mine", **BERT)
    own = make_encoder("text", str(folder)).outputs
    assert [(one.recipe.encoder, one.layer, one.pooling) for one in own] == [("mine", "", "")]
    assert len(own[0].dimensions) == 8
    several = make_encoder("text", f"{folder}:1+last:mean+std", dtype="bfloat16").outputs
    assert [(one.layer, one.pooling) for one in several] == [
        *(("1", "mean"), ("1", "std"), ("last", "mean"), ("last", "std"))
    ]
    assert {one.recipe.dtype for one in several} == {"bfloat16"}
    assert len({one.recipe.fingerprint for one in (*own, *several)}) == 5
    with pytest.raises(UsageError, match="no layer '3'"):
        make_encoder("text", f"{folder}:3")


@pytest.mark.parametrize(
    ("modality", "name", "right"),
    [
        ("text", "egemaps", "--audio egemaps"),
        ("audio", "minilm", "--text minilm"),
        ("text", "vjepa2", "--video"),
    ],
)
def test_a_preset_under_another_modality_is_sent_to_its_flag(modality, name, right):
    with pytest.raises(UsageError, match=right):
        make_encoder(modality, name)


def test_a_checkpoint_of_another_modality_is_sent_to_its_flag(checkpoint):
    speech = checkpoint("speech", model_type="hubert")
    for modality in ("text", "video"):
        with pytest.raises(UsageError, match=f"is an audio encoder: use --audio {speech}"):
            make_encoder(modality, str(speech))
    with pytest.raises(UsageError, match=r"type 'bert' is none of wav2vec2.*or --text if it reads text"):
        make_encoder("audio", str(checkpoint("text", **BERT)))


def test_what_has_no_layers_and_no_revisions_says_so():
    with pytest.raises(UsageError, match="egemaps has no layers"):
        make_encoder("audio", "egemaps:9")
    with pytest.raises(UsageError, match="blendshapes has no layers"):
        make_encoder("video", "blendshapes::std")
    for modality, name in (("audio", "egemaps"), ("text", "minilm")):
        with pytest.raises(UsageError, match=f"--revision abc: {name} has no other revisions"):
            make_encoder(modality, name, revision="abc")


def test_encoders_without_weights_are_made_with_nothing_fetched():
    for name in ("egemaps", "gemaps", "compare", "emobase"):
        (output,) = make_encoder("audio", name, fetch=False).outputs
        assert (output.recipe.encoder, len(output.dimensions)) == (name, PRESETS[name].dimensions)
    slow = make_encoder("video", "blendshapes", frame_rate=5, fetch=False).outputs[0].recipe
    usual = make_encoder("video", "blendshapes", fetch=False).outputs[0].recipe
    assert slow.fingerprint != usual.fingerprint


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.reader])
def test_a_preset_that_is_not_here_says_how_to_get_it(name):
    preset = PRESETS[name]
    assert on_this_machine(name) is False
    with pytest.raises(MixedSignalsError) as caught:
        make_encoder(preset.modality, name, fetch=False)
    assert f"mixed-signals weights fetch {preset.hub or preset.weights}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slip_in_the_name_of_a_preset_is_seen():
    with pytest.raises(MixedSignalsError, match=r"did you mean roberta-base\? \(robreta-base: not on"):
        make_encoder("text", "robreta-base")
    with pytest.raises(MixedSignalsError) as caught:
        make_encoder("text", "org/something-else")
    assert "did you mean" not in str(caught.value)


def test_every_type_of_network_is_one_that_transformers_has():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(NETWORKS) <= set(CONFIG_MAPPING_NAMES)


def test_every_class_that_the_registry_names_is_there():
    from mixed_signals.extract.encoders import _class

    for path in {cls for _, cls in NETWORKS.values()} | {p.reader for p in PRESETS.values() if p.reader}:
        assert _class(path).__name__ == path.rpartition(".")[2]


def test_presets_are_well_formed():
    for preset in PRESETS.values():
        assert preset.modality in {"text", "audio", "video"}
        assert preset.dimensions > 0
        assert preset.licence
        assert preset.about
        assert bool(preset.hub or preset.weights or preset.reader)
        assert not (preset.hub and preset.weights)
        assert (preset.rate > 0) == (preset.modality != "text")


@pytest.mark.parametrize("columns", [80, 100])
def test_the_list_says_of_every_preset_what_one_needs_to_choose(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_encoders()
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= columns
    for name, preset in PRESETS.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert f"{preset.dimensions:,}" in line
        assert preset.licence in line
        assert ("built in" if on_this_machine(name) is None else " no ") in line
    assert "NAME:LAYERS:POOLINGS" in printed
