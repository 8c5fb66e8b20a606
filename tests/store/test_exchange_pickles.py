"""MMSA's pickles and torch files: read without running anything that is in them."""

import functools
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from exchange_files import IDS, mmsa_file, refusal
from small_store import utterance_table

from mixed_signals.store import (
    Corpus,
    Store,
    UsageError,
    import_features,
)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))


# MMSA's pickles


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_mmsa_pickles_are_pooled_over_the_given_length(store, tmp_path, protocol):
    source = mmsa_file(tmp_path / "x.pkl", protocol)
    if protocol == 2:  # as numpy 1 wrote it
        source.write_bytes(source.read_bytes().replace(b"cnumpy._core.", b"cnumpy.core."))
    features = import_features(store, source, "audio", "covarep")
    assert features.coverage == {"pending": 0, "ok": 2, "missing": 1, "failed": 1}
    np.testing.assert_array_equal(features.embedding[:2], [[1, 1], [2, 2]])
    assert features.status.tolist() == [1, 1, 2, 3]
    assert features.recipe.pooling == "mean over steps: within audio_lengths, not all zero, finite"
    text = import_features(store, source, "text", "bert")
    np.testing.assert_array_equal(text.embedding, np.ones((4, 4)))
    assert text.recipe.pooling == "mean over steps: those not all zero, finite"


def test_steps_that_are_all_zero_do_not_count_where_there_are_no_lengths(store, tmp_path):
    steps = np.zeros((1, 4, 2))
    steps[0, 2:] = [[2, 0], [4, 0]]
    content = {
        "valid": {"id": ["u001"], "vision": steps},
        "test": {"id": ["u002"], "vision": np.zeros((1, 4, 2))},
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    features = import_features(store, tmp_path / "x.pkl", "video", "openface")
    np.testing.assert_array_equal(features.embedding[1], [3, 0])
    assert features.status.tolist() == [2, 1, 2, 2]
    renamed = import_features(store, tmp_path / "x.pkl", "audio", "renamed", key="vision")
    np.testing.assert_array_equal(renamed.embedding, features.embedding)


@pytest.mark.parametrize(
    ("steps", "length", "mean"),
    [
        ([0, 0, 0, 0], 1, None),  # MMSA writes at least 1
        ([0, 0, 2, 4], 2, 3),  # zeros in front: the length is right, the place is not
        ([0, 0, 2, 4], 1, 3),  # zeros in front, and a length that stops at them
        ([2, 4, 0, 0], 2, 3),
        ([2, 4, 9, 9], 2, 3),  # padded with something else
        ([2, 0, 4, 9], 3, 3),  # a step of zeros within
        ([0, 2, 0, 4], 3, 3),
    ],
)
def test_a_length_counts_only_where_zeros_do_not_tell(store, tmp_path, steps, length, mean):
    split = {"id": ["u001"], "audio": np.array(steps, float).reshape(1, 4, 1), "audio_lengths": [length]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"train": split}))
    features = import_features(store, tmp_path / "x.pkl", "audio", "a")
    assert features.status[1] == (2 if mean is None else 1)
    assert mean is None or features.embedding[1, 0] == mean


@pytest.mark.parametrize("wrong", [-1, 6])
def test_a_length_that_cannot_be_is_refused_with_its_utterance(store, tmp_path, wrong):
    lengths = [5, wrong, 1, 1]
    source = mmsa_file(tmp_path / "x.pkl")
    content = pickle.loads(source.read_bytes())
    content["train"]["audio_lengths"] = lengths[:3]
    source.write_bytes(pickle.dumps(content))
    message = refusal(store, source, UsageError)
    assert (
        f"'audio_lengths': 1 of 3 are not within 0 to 5, the steps there are, e.g. {wrong} for u001"
        in message
    )


def test_the_input_of_bert_is_not_taken_for_features(store, tmp_path):
    source = mmsa_file(tmp_path / "x.pkl", text_bert=np.ones((3, 3, 50)))
    assert "token ids, mask and segments" in refusal(store, source, UsageError, key="text_bert")


@pytest.mark.parametrize(
    "changes",
    [
        {"audio": np.zeros((7, 2, 2))},
        {"audio": np.zeros(3)},
        {"audio": [[1.0]]},
        {"audio": None},
        {"audio_lengths": [1]},
        {"audio_lengths": "1234"},
        {"id": [1.5, 2.5]},
        {"id": ["u000", 1]},
    ],
)
def test_mmsa_pickles_of_another_form_are_refused(store, tmp_path, changes):
    refusal(store, mmsa_file(tmp_path / "x.pkl", **changes), UsageError)


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["alone", "in a split"])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, f"{os.name}.system"),
        (eval, "builtins.eval"),
        (np.load, "numpy.load"),
        (functools.partial, "functools.partial"),
        (getattr, "builtins.getattr"),
        (torch.load, "torch.serialization.load"),
    ],
)
def test_a_pickle_that_names_code_is_refused_and_nothing_is_run(store, tmp_path, function, named, where):
    flag = tmp_path / "ran"
    argument = f"open({str(flag)!r}, 'w')" if function is eval else f"touch {flag}"
    call = Calls(function, argument)
    source = tmp_path / "x.pkl"
    if where == "alone":
        source.write_bytes(pickle.dumps(call))
    else:
        mmsa_file(source, raw_text=[call])
    assert f"it names {named}, which is code, not data" in refusal(store, source, UsageError)
    assert not flag.exists()


def test_a_name_in_a_file_cannot_break_the_line_of_the_error(store, tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04X\x05\x00\x00\x00a\nb\x1b[X\x01\x00\x00\x00c\x93.")
    assert "it names a b [.c, which is code" in refusal(store, tmp_path / "x.pkl", UsageError)


MULTIARRAY = b"cnumpy._core.multiarray\n"
OBJECT = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8I00\nI01\ntR"
FLOAT = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8I00\nI01\ntR"
EMPTY = MULTIARRAY + b"_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
EIGHT = b"C\x08AAAAAAAA"
HOSTILE = {
    "a scalar whose bytes would be taken as an object": MULTIARRAY + b"scalar\n(" + OBJECT + EIGHT + b"tR",
    "a scalar with too few bytes": MULTIARRAY + b"scalar\n(" + FLOAT + b"C\x04AAAAtR",
    "an array whose bytes would be taken as objects": EMPTY
    + b"(I1\n(I1\nt"
    + OBJECT
    + b"I00\n"
    + EIGHT
    + b"tb",
    "a buffer that would be taken as objects": (
        b"cnumpy._core.numeric\n_frombuffer\n(" + EIGHT + OBJECT + b"(I1\ntX\x01\x00\x00\x00CtR"
    ),
    "an array of a shape beyond memory": (
        EMPTY + b"(I1\n(I1000000\nI1000000\nI1000000\nt" + FLOAT + b"I00\n" + EIGHT + b"tb"
    ),
    "an array of a negative shape": EMPTY + b"(I1\n(I-1\nI-1\nt" + FLOAT + b"I00\n" + EIGHT + b"tb",
    "an array of objects that are lists": EMPTY + b"(I1\n(I1\nt" + OBJECT + b"I00\n(lp0\n(lp1\natb",
    "an array made by a call of its type": b"cnumpy\nndarray\n((I1\nt" + OBJECT + EIGHT + b"tR",
    "a structured type": b"cnumpy\ndtype\n(X\x05\x00\x00\x00i4,i4tR",
    "a changed name": MULTIARRAY + b"scalar\n(N}X\x0c\x00\x00\x00__defaults__Nstb",
    "a type that is a tuple": b"cnumpy\ndtype\n(I1\ntR",
    "an array of more axes than there are": EMPTY
    + b"(I1\n("
    + b"I1\n" * 65
    + b"t"
    + FLOAT
    + b"I00\n"
    + EIGHT
    + b"tb",
    "a tuple as a key": b"}I1\n\x85I1\ns",
    "tuples as keys, by DICT": b"(I1\n\x85I1\nd",
    "tuples as keys, by SETITEMS": b"}(I1\nI1\nI1\n\x85q\x00I1\nu",
    "a tuple from the memo as a key": b"I1\n\x85q\x000}h\x00I1\ns",
    "nested tuples from the memo": b")\x94" + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(20)),
    "nested tuples, doubled": b")" + b"2\x86" * 20,
    "a frozen set": b"(I1\n\x91",
    "a set": b"\x8f",
    "a memo index beyond reason": b"Nr\xff\xff\xff\x7f",
    "a length beyond the file": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0fA",
    "a persistent id": b"Pelsewhere\n",
    "a class instance by opcode": b"(ios\nsystem\n",
    "text that is not Unicode": (
        EMPTY + b"(I1\n(I1\ntcnumpy\ndtype\n(X\x02\x00\x00\x00U1I00\nI01\ntRI00\nC\x04\xff\xff\xff\xfftb"
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_pickle_that_misuses_numpy_is_refused(store, tmp_path, attack):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + HOSTILE[attack] + b".")
    said = "not readable" if attack == "a length beyond the file" else "refused"
    assert said in refusal(store, tmp_path / "x.pkl")


def test_a_pickled_object_that_numpy_would_read_is_read_here_too(tmp_path):
    """The hostile pickles above are well formed: their harmless twins are read."""
    from mixed_signals.store.exchange.plain_pickle import load_plain_pickle

    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04" + MULTIARRAY + b"scalar\n(" + FLOAT + EIGHT + b"tR.")
    assert load_plain_pickle(path) == np.frombuffer(b"A" * 8, "f8")[0]
    path.write_bytes(b"\x80\x04" + EMPTY + b"(I1\n(I1\nt" + FLOAT + b"I00\n" + EIGHT + b"tb.")
    assert load_plain_pickle(path).values.tolist() == [np.frombuffer(b"A" * 8, "f8")[0]]


# Tensors


def test_a_torch_file_that_names_code_is_refused_and_nothing_is_run(store, tmp_path):
    source = tmp_path / "x.pt"
    torch.save({"utterance_id": IDS, "embedding": Calls(os.system, f"touch {tmp_path / 'ran'}")}, source)
    assert f"it names {os.name}.system, which is code, not data" in refusal(store, source, UsageError)
    assert not (tmp_path / "ran").exists()
    torch.save({"utterance_id": IDS, "embedding": np.eye(4)}, source)
    assert "numpy" in refusal(store, source, UsageError)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a list"),
        ({"state": {"a": torch.zeros(1)}}, "'state': dict"),
        ({"u000": torch.zeros(2), "u001": torch.zeros(3)}, "'u001': tensor (3,)"),
        ({"u000": torch.zeros(2), "u001": 3}, "'u001': int"),
        ({1: torch.zeros(2)}, "int: tensor (2,)"),
        ({"utterance_id": IDS, "embedding": torch.zeros(4)}, "'embedding': tensor (4,)"),
        ({"utterance_id": IDS[:2], "embedding": torch.zeros(4, 2)}, "expected 4 texts"),
        ({"utterance_id": IDS, "embedding": torch.zeros(1).expand(4, 10**12)}, "tensor (4, 1000000000000)"),
        ({"utterance_id": IDS, "embedding": torch.eye(4).to_sparse()}, "'embedding': tensor (4, 4)"),
        ({}, "{}"),
    ],
)
def test_a_torch_file_of_another_form_is_refused_with_what_it_holds(store, tmp_path, content, said):
    torch.save(content, tmp_path / "x.pth")
    assert said in refusal(store, tmp_path / "x.pth", UsageError)


def test_a_torch_file_with_nested_tuples_as_keys_is_refused(store, tmp_path):
    nested = b"".join(b"h%ch%c\x86q%ca" % (i, i, i + 1) for i in range(20))
    torch.save({}, tmp_path / "y.pt")
    with zipfile.ZipFile(tmp_path / "y.pt") as plain, zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        for name in plain.namelist():
            hostile = b"\x80\x02])q\x00a" + nested + b"}h\x14K\x01s."
            file.writestr(name, hostile if name.endswith("data.pkl") else plain.read(name))
    assert "tuples in tuples, more than 8 deep" in refusal(store, tmp_path / "x.pt", UsageError)


def test_a_tensor_that_is_stored_negated_is_read_as_what_it_stands_for(store, tmp_path):
    vectors = torch.complex(torch.zeros(4, 2), torch.ones(4, 2)).conj().imag
    assert vectors.is_neg()
    torch.save({"utterance_id": IDS, "embedding": vectors}, tmp_path / "x.pt")
    np.testing.assert_array_equal(
        import_features(store, tmp_path / "x.pt", "audio", "a").embedding, -np.ones((4, 2))
    )
