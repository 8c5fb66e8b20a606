"""Checkpoints are opened, converted and loaded; whatever is wrong with one is said in one line."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_files import one_line, tiny, write
from other_processes import environment
from safetensors.torch import load_file, save_file

from mixed_signals.extract import weights
from mixed_signals.extract.checkpoints import Checkpoint, resolve
from mixed_signals.extract.encoders import PRESETS, make_encoder
from mixed_signals.extract.encoders.presets import Preset
from mixed_signals.store import MixedSignalsError, UsageError

pytestmark = pytest.mark.usefixtures("own_caches")


def change_weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


# Folders


def test_a_folder_is_called_after_itself_and_known_by_its_content(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a")
    found = resolve(str(folder))
    assert (found.name, found.folder, found.revision) == ("a", folder, "")
    assert found.config["model_type"] == "bert"
    assert found.json("config.json") == found.config
    assert found.json("modules.json") == {}
    same = shutil.copytree(folder, tmp_path / "b")
    (same / "README.md").write_text("other words")
    assert resolve(str(same)).fingerprint == found.fingerprint


@pytest.mark.parametrize(
    "changed", ["config.json", "vocab.txt", "model.safetensors", "1_Pooling/config.json"]
)
def test_every_file_that_makes_the_vectors_counts(tmp_path, changed):
    folder = write(tiny("BertModel"), tmp_path / "a")
    before = resolve(str(folder)).fingerprint
    (folder / changed).parent.mkdir(exist_ok=True)
    with (folder / changed).open("a") as handle:
        handle.write(" ")
    assert resolve(str(folder)).fingerprint != before


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path):
    for name in (str(tmp_path / "none"), "./none", "none/", "a/b/c"):
        with pytest.raises(UsageError, match="there is no such folder here, and no name on the hub"):
            resolve(name)
    with pytest.raises(UsageError, match=r"has no config\.json"):
        resolve(str(tmp_path))
    with pytest.raises(UsageError, match="no preset, no folder here, and no name"):
        resolve("what is this")
    folder = write(tiny("BertModel"), tmp_path / "a")
    with pytest.raises(UsageError, match="--revision v1"):
        resolve(str(folder), revision="v1")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MixedSignalsError, match=r"has no weights: it needs model\.safetensors"):
        resolve(str(folder))
    (folder / "config.json").write_text('{"architectures": ["X"]}')
    with pytest.raises(MixedSignalsError, match="names no model_type"):
        resolve(str(folder))
    (folder / "config.json").write_text('{"model_type": "bert", "transformers_weights": "other.safetensors"}')
    with pytest.raises(MixedSignalsError, match="sends to other files of weights"):
        resolve(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(MixedSignalsError, match=r"config\.json: not readable as JSON"):
        resolve(str(folder))


def test_code_of_its_own_is_never_run(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a")
    marker = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass C: pass\nclass M: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.C", "AutoModel": "code.M"}
    (folder / "config.json").write_text(json.dumps(config))
    assert type(resolve(str(folder)).model()).__name__ == "BertModel"
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "new"}))
    with pytest.raises(MixedSignalsError, match="needs code of its own"):
        resolve(str(folder))
    assert not marker.exists()


def test_an_adapter_is_not_taken_along_unseen(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(MixedSignalsError, match="holds an adapter beside its weights"):
        resolve(str(folder))


# Weights


def test_a_network_comes_in_float32_for_evaluation_as_it_was_saved(tmp_path):
    network = tiny("BertModel")
    folder = write(network, tmp_path / "whole")
    change_weights(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    found = resolve(str(folder)).model()
    assert not found.training
    assert found.state_dict().keys() == network.state_dict().keys()
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == network.state_dict()[name].dtype
        torch.testing.assert_close(tensor, network.state_dict()[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "inside"),
    [
        ("HubertForCTC", "hubert"),
        ("Wav2Vec2ForPreTraining", "wav2vec2"),
        ("RobertaForMaskedLM", "roberta"),
        ("BertForPreTraining", "bert"),
    ],
)
def test_checkpoints_with_a_head_give_their_base(tmp_path, kind, inside):
    network = tiny(kind)
    found = resolve(str(write(network, tmp_path / "a"))).model()
    wanted = getattr(network, inside).state_dict()
    assert wanted.keys() - {"masked_spec_embed"} <= found.state_dict().keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found.state_dict()[name], tensor)


def test_weights_under_the_old_names_of_weight_norm_are_found(tmp_path):
    network = tiny("HubertModel")
    folder = write(network, tmp_path / "old")
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}

    def old(tensors):
        for new, before in names.items():
            tensors = {name.replace(new, before): tensor for name, tensor in tensors.items()}
        assert any(name.endswith("conv.weight_g") for name in tensors)
        return tensors

    change_weights(folder, old)
    conv = resolve(str(folder)).model().encoder.pos_conv_embed.conv
    torch.testing.assert_close(conv.weight, network.encoder.pos_conv_embed.conv.weight)


def test_weights_that_would_be_random_are_refused(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "holes")
    change_weights(folder, lambda all_: {k: v for k, v in all_.items() if "attention.output" not in k})
    with pytest.raises(
        MixedSignalsError, match=r"of BertModel, 4 \(encoder\.layer\.0\..*, \.\.\.\) are not in"
    ):
        resolve(str(folder)).model()


def test_weights_of_another_shape_are_refused(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 16}))
    with pytest.raises(
        MixedSignalsError, match=r"of BertModel, 3 \(.*intermediate.*have other shapes"
    ) as caught:
        resolve(str(folder)).model()
    one_line(caught)


def test_what_no_encoder_reads_may_lack(tmp_path):
    assert resolve(str(write(tiny("RobertaForMaskedLM"), tmp_path / "r"))).model().pooler is not None
    folder = write(tiny("HubertModel"), tmp_path / "a")
    change_weights(folder, lambda all_: {k: v for k, v in all_.items() if k != "masked_spec_embed"})
    resolve(str(folder)).model()


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_a_folder_that_is_written_to_after_its_fingerprint_was_taken_is_not_loaded(tmp_path, file):
    folder = write(tiny("BertModel"), tmp_path / "a")
    found = resolve(str(folder))
    found.model()
    write(tiny("BertModel", seed=1), tmp_path / "b")
    os.replace(tmp_path / "b" / file, folder / file)
    with pytest.raises(MixedSignalsError, match="was changed after the job began: start it again") as caught:
        found.model()
    one_line(caught)
    resolve(str(folder)).model()


def test_a_damaged_file_of_weights_is_an_error_of_one_line(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a")
    os.truncate(folder / "model.safetensors", 500)
    with pytest.raises(MixedSignalsError, match="cannot be loaded") as caught:
        resolve(str(folder)).model()
    one_line(caught)


def test_loading_leaves_the_messages_of_transformers_as_they_were(tmp_path, capsys):
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    folder = write(tiny("RobertaForMaskedLM"), tmp_path / "a")
    capsys.readouterr()
    resolve(str(folder)).model()
    assert capsys.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


def test_shards_are_read_and_all_must_be_there(tmp_path):
    network = tiny("BertModel")
    folder = write(network, tmp_path / "a", max_shard_size="2KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) >= 2
    found = resolve(str(folder))
    torch.testing.assert_close(found.model().state_dict(), network.state_dict())
    with shards[1].open("ab") as handle:
        handle.write(b" ")
    assert resolve(str(folder)).fingerprint != found.fingerprint
    shards[1].unlink()
    with pytest.raises(MixedSignalsError, match="with every shard that an index names"):
        resolve(str(folder))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../elsewhere"}}')
    with pytest.raises(MixedSignalsError, match="another folder"):
        resolve(str(folder))


# Pickles


def test_pickled_weights_are_converted_once_and_known_by_their_source(tmp_path):
    network = tiny("RobertaForMaskedLM")  # the embeddings are shared with the head
    folder = write(network, tmp_path / "a", pickled=True)
    before = resolve(str(folder), fetch=False)
    assert before.folder == folder  # looking writes nothing
    assert not (tmp_path / "cache").exists()
    found = resolve(str(folder))
    assert found.fingerprint == before.fingerprint
    assert found.folder == tmp_path / "cache/converted" / found.fingerprint
    assert sorted(p.name for p in found.folder.iterdir()) == [
        *("config.json", "generation_config.json")[:1],
        *("model.safetensors", "vocab.txt"),
    ]
    tensors = load_file(found.folder / "model.safetensors")
    torch.testing.assert_close(tensors, dict(network.state_dict()))
    torch.testing.assert_close(found.model().embeddings.state_dict(), network.roberta.embeddings.state_dict())
    made = (found.folder / "model.safetensors").stat()
    assert (resolve(str(folder)).folder / "model.safetensors").stat() == made
    other = write(tiny("RobertaForMaskedLM", seed=1), tmp_path / "b", pickled=True)
    assert resolve(str(other)).fingerprint != found.fingerprint


def test_precision_is_kept_and_old_pickles_are_read(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a", pickled=True)
    half = {name: tensor.to(torch.bfloat16) for name, tensor in tiny("BertModel").state_dict().items()}
    torch.save(half, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    tensors = load_file(resolve(str(folder)).folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    torch.testing.assert_close(tensors, half)


def test_pickled_shards_become_shards(tmp_path):
    network = tiny("BertModel")
    folder = write(network, tmp_path / "a", pickled=True)
    (folder / "pytorch_model.bin").unlink()
    state = network.state_dict()
    names = list(state)
    parts = {f"pytorch_model-0000{n}-of-00002.bin": part for n, part in ((1, names[:7]), (2, names[7:]))}
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = resolve(str(folder))
    assert len(list(found.folder.glob("model-*-of-00002.safetensors"))) == 2
    torch.testing.assert_close(found.model().state_dict(), state)


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.mark.parametrize("form", ["zip", "plain"])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, form):
    folder = write(tiny("BertModel"), tmp_path / "a", pickled=True)
    marker = tmp_path / "ran"
    content = {"x": torch.zeros(1), "y": Attack(str(marker))}
    if form == "zip":
        torch.save(content, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content["y"], protocol=2))
    with pytest.raises(
        MixedSignalsError, match="nothing in it was run: use a checkpoint published as"
    ) as caught:
        resolve(str(folder))
    one_line(caught)
    assert not marker.exists()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 cut"])
def test_a_damaged_pickle_is_an_error_of_one_line(tmp_path, content):
    folder = write(tiny("BertModel"), tmp_path / "a", pickled=True)
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(MixedSignalsError, match=r"pytorch_model\.bin") as caught:
        resolve(str(folder))
    one_line(caught)


def test_a_pickle_of_something_else_is_refused(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a", pickled=True)
    for content in ({"epoch": 3, "model": {"x": torch.zeros(1)}}, [torch.zeros(1)]):
        torch.save(content, folder / "pytorch_model.bin")
        with pytest.raises(MixedSignalsError, match="not a table of tensors"):
            resolve(str(folder))


def test_several_processes_may_convert_at_once(tmp_path):
    folder = write(tiny("BertModel"), tmp_path / "a", pickled=True)
    code = (
        "import sys\nfrom mixed_signals.extract.checkpoints import resolve\n"
        "sys.stdin.readline()\nprint(resolve(sys.argv[1]).folder)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (made,) = map(Path, said)
    torch.testing.assert_close(load_file(made / "model.safetensors"), dict(tiny("BertModel").state_dict()))
    assert [p.name for p in made.parent.iterdir() if not p.name.endswith(".lock")] == [made.name]


# Pinned weights


def test_a_pinned_preset_has_a_fingerprint_that_is_known_beforehand(tmp_path, monkeypatch):
    source = write(tiny("BertModel"), tmp_path / "cache/tiny")
    files = tuple(
        weights.PinnedFile(p.name, hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size)
        for p in source.iterdir()
    )
    nowhere = weights.WebSource("http://127.0.0.1:9")
    entry = weights.Weights("tiny", files, nowhere, weights.WheelSource("no-such", "1.0", "x", 1))
    monkeypatch.setitem(weights.REGISTRY, "tiny", entry)
    monkeypatch.setitem(PRESETS, "tiny", Preset("text", 8, "MIT", "x", weights="tiny"))
    checkpoint = make_encoder("text", "tiny", fetch=False).checkpoint
    assert checkpoint == Checkpoint(
        "tiny", source, json.loads((source / "config.json").read_text()), weights.fingerprint("tiny")
    )
    (source / "vocab.txt").write_text("changed")
    with pytest.raises(MixedSignalsError, match="run 'mixed-signals weights fetch tiny'"):
        make_encoder("text", "tiny", fetch=False)
