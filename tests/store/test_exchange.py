"""Feature sets from elsewhere and for elsewhere: joined by id, nothing run, nothing lost."""

import functools
import os
import pickle
import resource
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_store import planted_store, utterance_table
from typer.testing import CliRunner

from mixed_signals.store import (
    Corpus,
    FeatureWriter,
    MixedSignalsError,
    Store,
    UsageError,
    export_features,
    export_views,
    import_features,
)
from mixed_signals.store.cli import app

IDS = ["u000", "u001", "u002", "u003"]


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))


def save_npz(path, ids, vectors, **more):
    np.savez(path, utterance_id=np.array(ids), embedding=np.array(vectors), **more)
    return path


def refusal(store, source, error=MixedSignalsError, **options):
    """Import, which must fail in one line that names the file, and leave nothing."""
    with pytest.raises(error) as caught:
        import_features(store, source, "audio", "refused", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    assert "audio/refused" not in store.feature_sets()
    return message


# Matrices with ids


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet", "indexed.parquet", "pt", "by_id.pt"])
def test_matrices_with_ids_come_in_by_id(store, tmp_path, ending):
    source = tmp_path / f"x.{ending}"
    frame = pd.DataFrame({"utterance_id": ["u002", "u000"], "smile": [2.0, 0.0], "frown": [np.nan, 1.0]})
    matrix = frame[["smile", "frown"]].to_numpy()
    ids = frame["utterance_id"].tolist()
    match ending:
        case "npz":
            save_npz(source, ids, matrix, dimension=["smile", "frown"])
        case "csv":
            frame.to_csv(source, index=False)
        case "parquet":
            frame.to_parquet(source)
        case "indexed.parquet":
            frame.set_index("utterance_id").to_parquet(source)
        case "pt":
            torch.save({"utterance_id": ids, "embedding": torch.tensor(matrix)}, source)
        case "by_id.pt":
            torch.save(dict(zip(ids, torch.tensor(matrix).bfloat16(), strict=True)), source)
    features = import_features(store, source, "video", "face")
    names = ["face_0", "face_1"] if ending.endswith("pt") else ["smile", "frown"]
    assert list(features.dimensions) == names
    assert features.coverage == {"pending": 0, "ok": 1, "missing": 2, "failed": 1}
    np.testing.assert_array_equal(features.embedding[0], [0, 1])
    assert dict(zip(features.ids, features.reasons, strict=True)) == {
        "u000": "",
        "u001": f"not in {source.name}",
        "u002": f"a value that is not finite in {source.name}",
        "u003": f"not in {source.name}",
    }


def test_a_matrix_without_ids_is_refused_and_told_how_to_get_them(store, tmp_path):
    np.savez(tmp_path / "x.npz", embedding=np.zeros((4, 2)))
    pd.DataFrame({"smile": [1.0] * 4}).to_csv(tmp_path / "x.csv", index=False)
    with (tmp_path / "x.pkl").open("wb") as handle:
        pickle.dump({"train": {"audio": np.zeros((4, 2, 3))}}, handle)
    torch.save(torch.zeros(4, 2), tmp_path / "x.pt")
    for ending in ("npz", "csv", "pkl"):
        message = refusal(store, tmp_path / f"x.{ending}", UsageError)
        assert "joined by utterance id only" in message
        assert "write the id of each row beside it" in message
    assert "a tensor of shape (4, 2) without ids" in refusal(store, tmp_path / "x.pt", UsageError)


def test_strangers_and_repeated_ids_are_refused(store, tmp_path):
    source = save_npz(tmp_path / "x.npz", ["u000", "z4", "z3", "z2", "z1"], np.zeros((5, 2)))
    assert "4 of 5 ids are not in the corpus, e.g. z1, z2, z3; --ignore-extra" in refusal(store, source)
    assert import_features(store, source, "video", "part", ignore_extra=True).ok.sum() == 1
    save_npz(source, ["z1", "z2"], np.zeros((2, 2)))
    assert "2 of 2 ids are not in the corpus" in refusal(store, source, ignore_extra=True)
    save_npz(source, ["u000", "u001", "u000"], np.zeros((3, 2)))
    assert "1 utterance ids come more than once" in refusal(store, source, UsageError)


def test_a_name_that_is_taken_is_refused_with_the_mend(store, tmp_path):
    source = save_npz(tmp_path / "x.npz", IDS, np.eye(4))
    made = import_features(store, source, "audio", "a")
    with pytest.raises(UsageError, match=r"audio/a: is in the store already; choose another --name"):
        import_features(store, save_npz(source, IDS, np.zeros((4, 9))), "audio", "a")
    np.testing.assert_array_equal(store["audio/a"].embedding, made.embedding)


def test_the_key_names_the_vectors_and_other_flags_are_refused(store, tmp_path):
    np.savez(tmp_path / "x.npz", utterance_id=IDS, hidden=np.eye(4))
    assert "--key" in refusal(store, tmp_path / "x.npz", UsageError)
    assert import_features(store, tmp_path / "x.npz", "audio", "h", key="hidden").ok.all()
    pd.DataFrame({"utterance_id": IDS, "a": 0.0}).to_csv(tmp_path / "x.csv", index=False)
    for flag in ("key", "entry"):
        with pytest.raises(UsageError, match=f"--{flag}: means nothing for .csv"):
            import_features(store, tmp_path / "x.csv", "audio", "t", **{flag: "label"})
    (tmp_path / "x.mat").touch()
    with pytest.raises(UsageError, match=r"read are \.npz, .* not \.mat"):
        import_features(store, tmp_path / "x.mat", "audio", "t")


@pytest.mark.parametrize(
    "arrays",
    [
        {"utterance_id": np.array(IDS, dtype=object), "embedding": np.eye(4)},
        {"utterance_id": np.array(IDS), "embedding": np.eye(3)},
        {"utterance_id": np.array(IDS), "embedding": np.zeros(4)},
        {"utterance_id": np.array(IDS), "embedding": np.array([["a"]] * 4)},
        {"utterance_id": np.array(IDS), "embedding": np.eye(4), "dimension": np.array(["one"])},
        {"utterance_id": np.array([], str), "embedding": np.zeros((0, 3))},
    ],
)
def test_arrays_that_do_not_fit_are_refused(store, tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    refusal(store, tmp_path / "x.npz")


def test_what_float32_cannot_hold_fails_its_row_only(store, tmp_path):
    vectors = np.zeros((4, 2))
    vectors[1, 1] = 1e300
    features = import_features(store, save_npz(tmp_path / "x.npz", IDS, vectors), "audio", "a")
    assert features.status.tolist() == [1, 3, 1, 1]


def test_spaces_around_an_id_mean_nothing(store, tmp_path):
    features = import_features(
        store, save_npz(tmp_path / "x.npz", [" u000", "u001 "], np.eye(2)), "audio", "a"
    )
    assert features.status.tolist() == [1, 1, 2, 2]


# Tables


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (",utterance_id,a", "a column without a name ('')"),
        ("Unnamed: 0,utterance_id,a", "a column without a name ('Unnamed: 0')"),
        ("label,utterance_id,a", "label: called as a column of the corpus"),
        ("a,utterance_id,start", "start: called as a column of the corpus"),
        ("a,utterance_id,a", "two columns 'a'"),
        ("utterance_id, utterance_id,a", "two columns 'utterance_id'"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_that_is_no_dimension_is_refused_by_name(store, tmp_path, header, said, ending):
    source = tmp_path / f"x.{ending}"
    if ending == "csv":
        source.write_text(
            f"{header}\n" + "1,u000,2\n".replace("1,u000", "u000,1" if "two columns 'u" in said else "1,u000")
        )
    elif "two columns" in said:
        return
    else:
        pd.DataFrame([[1.0, "u000", 2.0]], columns=header.split(",")).to_parquet(source)
    assert said in refusal(store, source, UsageError)


def test_the_index_that_pandas_writes_is_refused(store, tmp_path):
    pd.DataFrame({"utterance_id": IDS, "a": 1.0}).to_csv(tmp_path / "x.csv")
    assert "to_csv(..., index=False)" in refusal(store, tmp_path / "x.csv", UsageError)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("u001,1", "line 3: 2 cells, the header has 3"),
        ("u001,1,2,3", "line 3: 4 cells, the header has 3"),
        ('"u001,1,2', "line 3: not readable"),
        ('"u0"01,1,2', "line 3: not readable"),
    ],
)
def test_a_line_that_does_not_fit_the_header_is_named(store, tmp_path, bad, said, quoted):
    first = '"u000"' if quoted else "u000"
    (tmp_path / "x.csv").write_text(f"utterance_id,a,b\n{first},1,2\n{bad}\nu002,1,2\n")
    assert said in refusal(store, tmp_path / "x.csv", UsageError)


def test_a_csv_with_quotes_empty_lines_and_a_mark_at_its_start_is_read(tmp_path):
    table = utterance_table(4, 2).assign(utterance_id=["a,1", "NA", "c", "d"])
    store = Store.create(tmp_path / "s", Corpus("c", table))
    (tmp_path / "x.csv").write_text(
        '\ufeffutterance_id, "a",b\r\n"a,1",1,2\r\n\r\nNA,3,\r\n', encoding="utf-8"
    )
    features = import_features(store, tmp_path / "x.csv", "audio", "a")
    assert features.status.tolist() == [1, 3, 2, 2]
    np.testing.assert_array_equal(features.embedding[0], [1, 2])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_empty_column_status_says_nothing(store, tmp_path, ending):
    frame = pd.DataFrame({"utterance_id": IDS, "a": 1.0, "status": None})
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    features = import_features(store, tmp_path / f"x.{ending}", "audio", "a")
    assert features.ok.all()
    assert list(features.dimensions) == ["a"]


def test_an_archive_that_claims_more_than_it_stores_is_refused(store, tmp_path):
    save_npz(tmp_path / "y.npz", IDS, np.zeros((4, 500_000)))
    with (
        zipfile.ZipFile(tmp_path / "y.npz") as plain,
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_BZIP2) as tight,
    ):
        for name in plain.namelist():
            tight.writestr(name, plain.read(name))
    assert "embedding.npy claims 16,000,128 bytes and stores hardly any" in refusal(
        store, tmp_path / "x.npz", UsageError
    )


# Ends that nobody planned


def test_an_interrupted_import_leaves_nothing_and_can_be_done_again(store, tmp_path, monkeypatch):
    source = save_npz(tmp_path / "x.npz", IDS, np.eye(4))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "write", interrupt)
        result = CliRunner().invoke(
            app, ["import", str(store.path), str(source), "--modality", "audio", "--name", "a"]
        )
    assert str(result.exception) == "interrupted; nothing was imported"
    assert store.feature_sets() == []
    assert import_features(store, source, "audio", "a").ok.all()


def test_a_set_that_another_process_put_there_meanwhile_stays(store, tmp_path, monkeypatch):
    from mixed_signals.store.exchange import incoming

    source, read = save_npz(tmp_path / "x.npz", IDS, np.eye(4)), incoming._read

    def read_slowly(*request):
        matrix = read(*request)
        with monkeypatch.context() as patch:
            patch.setattr(incoming, "_read", read)
            import_features(store, source, "audio", "a")
        return matrix

    monkeypatch.setattr(incoming, "_read", read_slowly)
    with pytest.raises(UsageError, match="audio/a: was put into the store meanwhile"):
        import_features(store, source, "audio", "a")
    assert store["audio/a"].ok.all()


# MMSA's pickles


def mmsa_file(path, protocol=4, **changes):
    """Two splits; steps of utterance i are i + 1, and 9 after its length; the third is all zero, of length 1."""
    audio = np.full((4, 5, 2), 9.0, np.float32)
    lengths = [5, 3, 1, 1]
    for i, length in enumerate(lengths):
        audio[i, :length] = i + 1
    audio[2] = 0
    audio[3, 0, 1] = -np.inf
    audio[1, 2] = [np.inf, 100]
    content = {
        "train": {
            "id": IDS[:3],
            "raw_text": np.array(["a", "b", "c"], dtype=object),
            "text": np.ones((3, 2, 4), np.float32),
            "audio": np.asfortranarray(audio[:3]),
            "audio_lengths": lengths[:3],
            "regression_labels": np.array([0.5, -1.0, 3.0], np.float32),
        },
        "test": {
            "id": np.array(IDS[3:]),
            "text": np.ones((1, 2, 4), ">f8"),
            "audio": audio[3:],
            "audio_lengths": np.array(lengths[3:]),
            "score": np.float64(0.5),
        },
    }
    for split in content.values():
        split.update(changes)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


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
    assert load_plain_pickle(path).values.tolist() == [np.frombuffer(b"A" * 8, "f8")[0]]  # noqa: PD011


# Computational sequences


def csd_file(path, entries, name="OpenFace 2"):
    with h5py.File(path, "w") as file:
        for entry, (features, intervals) in entries.items():
            file[f"{name}/data/{entry}/features"] = features
            file[f"{name}/data/{entry}/intervals"] = intervals
        file[f"{name}/metadata/root name"] = name
    return path


def test_entries_called_as_utterances_are_pooled_over_all_their_steps(tmp_path):
    table = utterance_table(4, 2).assign(utterance_id=["v[0]", "v[1]", "w[0]", "w[1]"])
    store = Store.create(tmp_path / "s", Corpus("c", table))
    source = csd_file(
        tmp_path / "x.csd",
        {
            "v[0]": ([[1.0, 2], [3, 4], [np.nan, 50]], [[0, 1], [1, 2], [2, 3]]),
            "w[0]": ([[np.inf, 0.0]], [[0, 1]]),
            "w[1]": (np.zeros((0, 2)), np.zeros((0, 2))),
        },
    )
    features = import_features(store, source, "video", "openface")
    assert list(features.dimensions) == ["openface_0", "openface_1"]
    np.testing.assert_array_equal(features.embedding[0], [2, 3])
    assert features.status.tolist() == [1, 2, 3, 2]


def test_entries_called_as_videos_are_cut_at_the_utterances_times(tmp_path):
    table = utterance_table(4, 2).assign(
        video=["a", "a", "a", "b"], start=[0, 1.5, 90, np.nan], end=[1.0, 2.5, 99, np.nan]
    )
    store = Store.create(tmp_path / "s", Corpus("c", table))
    seconds = np.arange(4.0)
    entries = {
        "a": (seconds[:, None], np.stack([seconds, seconds + 1], axis=1)),
        "b": (10 + seconds[:, None], np.stack([seconds, seconds], axis=1)),
    }
    source = csd_file(tmp_path / "x.csd", entries)
    assert "--entry" in refusal(store, source, UsageError)
    features = import_features(store, source, "audio", "covarep", entry="video")
    np.testing.assert_array_equal(features.embedding[[0, 1, 3], 0], [0, 1.5, 11.5])
    assert features.status.tolist() == [1, 1, 2, 1]
    assert features.provenance["entry"] == "video"
    csd_file(source, entries | {"elsewhere": entries["a"]})
    assert "1 of 3 entries are not in the corpus, e.g. elsewhere" in refusal(store, source, entry="video")
    assert import_features(store, source, "audio", "more", entry="video", ignore_extra=True).ok.sum() == 3
    late = Store.create(tmp_path / "late", Corpus("c", table.assign(start=50, end=60)))
    del entries["b"]
    assert "no step for any utterance" in refusal(late, csd_file(source, entries), entry="video")
    with pytest.raises(UsageError, match="--entry: no column 'film'"):
        import_features(store, source, "audio", "refused", entry="film")


def test_a_file_of_several_sequences_needs_a_key(store, tmp_path):
    source = csd_file(tmp_path / "x.csd", {"u000": ([[1.0]], [[0, 1]])}, name="one")
    with h5py.File(source, "a") as file:
        file["two/data/u000/features"] = [[2.0]]
    assert "2 sequences (one, two); choose one with --key" in refusal(store, source, UsageError)
    assert import_features(store, source, "audio", "two", key="two").embedding[0, 0] == 2


def soft(file, entry):
    entry["features"] = h5py.SoftLink("/seq/secret")


def external(file, entry):
    entry["features"] = h5py.ExternalLink(str(Path(file.filename).with_name("other.h5")), "secret")


def external_storage(file, entry):
    other = str(Path(file.filename).with_name("other.bin"))
    entry.create_dataset("features", (2, 2), "f8", external=[(other, 0, 32)])


def virtual(file, entry):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource(str(Path(file.filename).with_name("other.h5")), "secret", (2, 2))
    entry.create_virtual_dataset("features", layout)


def absurd(file, entry):
    entry.create_dataset("features", (10**9, 1000), "f8", chunks=(1000, 100))


def text(file, entry):
    entry["features"] = np.array([["word"]], dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (soft, "link"),
        (external, "link"),
        (external_storage, "another file"),
        (virtual, "another file"),
        (absurd, "claims 8,000,000,000,000 bytes"),
        (text, "expected numbers"),
    ],
)
def test_a_sequence_that_leads_elsewhere_is_refused(store, tmp_path, place, said):
    source = tmp_path / "x.csd"
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones((2, 2))
    (tmp_path / "other.bin").write_bytes(bytes(32))
    with h5py.File(source, "w") as file:
        file["seq/secret"] = np.ones((2, 2))
        place(file, file.create_group("seq/data/u000"))
    assert said in refusal(store, source, UsageError)


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


# Damage


def valid_files(folder):
    save_npz(folder / "x.npz", IDS, np.eye(4))
    pd.DataFrame({"utterance_id": IDS, "a": [1.0, 2, 3, 4]}).to_parquet(folder / "x.parquet")
    torch.save({"utterance_id": IDS, "embedding": torch.eye(4)}, folder / "x.pt")
    mmsa_file(folder / "x.pkl")
    csd_file(folder / "x.csd", {"u000": ([[1.0]], [[0, 1]])})
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


with tempfile.TemporaryDirectory() as _folder:
    VALID = valid_files(Path(_folder))


@pytest.mark.parametrize("ending", sorted(VALID))
def test_an_empty_or_foreign_file_is_not_readable(store, tmp_path, ending):
    source = tmp_path / f"x{ending}"
    for content in (b"", b"PK\x03\x04 cut off", b"\x80\x04", b"nothing of the kind\n" * 50):
        source.write_bytes(content)
        assert "not readable" in refusal(store, source)


@settings(max_examples=60)
@given(st.sampled_from([".npz", ".parquet", ".pkl", ".pt"]), st.data())
def test_a_damaged_file_is_one_line_and_no_crash(ending, data):
    content = bytearray(VALID[ending][: data.draw(st.integers(0, len(VALID[ending])))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "s", Corpus("c", utterance_table(4, 2)))
        source = Path(folder) / f"x{ending}"
        source.write_bytes(content)
        try:
            import_features(store, source, "audio", "a")
        except MixedSignalsError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said


# Out


@settings(max_examples=15)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.floats(width=32, allow_subnormal=True),
    ),
    st.sampled_from([".npz", ".parquet"]),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1),
        unique_by=str.rstrip,
        min_size=5,
    ),
)
def test_what_is_exported_comes_in_again_the_same(vectors, ending, names):
    with tempfile.TemporaryDirectory() as folder:
        table = utterance_table(7, 2).assign(utterance_id=[*(f"a{name}" for name in names[:5]), "ü", "last"])
        store = Store.create(Path(folder) / "s", Corpus("c", table))
        ids = table["utterance_id"].tolist()[: len(vectors)]
        first = import_features(store, save_npz(Path(folder) / "x.npz", ids, vectors), "audio", "one")
        path = export_features(store, "audio/one", Path(folder) / f"y{ending}")
        again = import_features(store, path, "audio", "two")
        np.testing.assert_array_equal(again.ids, first.ids)
        np.testing.assert_array_equal(again.dimensions, first.dimensions)
        np.testing.assert_array_equal(again.status, first.status)
        np.testing.assert_array_equal(again.embedding[again.ok], first.embedding[first.ok])
        assert np.isnan(again.embedding[~again.ok]).all()


def test_an_npz_holds_everything_without_pickle(store, tmp_path):
    import json

    source = save_npz(tmp_path / "x.npz", ["u001", "u000"], [[1, np.nan], [2, 3]], dimension=["é", "f"])
    features = import_features(store, source, "video", "face")
    with np.load(export_features(store, "video/face", tmp_path / "y.npz")) as arrays:
        assert arrays["utterance_id"].tolist() == IDS
        assert arrays["embedding"].dtype == np.float32
        assert arrays["dimension"].tolist() == ["é", "f"]
        assert arrays["status"].tolist() == ["ok", "failed", "missing", "missing"]
        assert arrays["reason"].tolist() == features.reasons.tolist()
        assert json.loads(str(arrays["provenance"])) == {"video": features.provenance}


def test_an_export_replaces_a_file_only_when_told_to(tmp_path):
    store = planted_store(tmp_path, n=8, n_groups=2)
    path = tmp_path / "x.npz"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"is there already; .* --replace"):
        export_features(store, "text/planted", path)
    assert path.read_text() == "mine"
    export_features(store, "text/planted", path, replace=True)
    assert np.load(path)["embedding"].shape == (8, 6)
    with pytest.raises(UsageError, match=r"written are \.npz, \.parquet, \.h5ad, not \.mat"):
        export_features(store, "text/planted", tmp_path / "x.mat")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith("x")) == ["x.npz"]


def test_dimensions_that_parquet_cannot_tell_apart_are_refused(store, tmp_path):
    source = save_npz(tmp_path / "x.npz", IDS, np.eye(4), dimension=["a", "a", "status", "b"])
    import_features(store, source, "audio", "a")
    with pytest.raises(UsageError, match=r"two columns .* 'a'; export to \.npz"):
        export_features(store, "audio/a", tmp_path / "y.parquet")
    assert not (tmp_path / "y.parquet").exists()


def test_an_anndata_file_holds_vectors_utterances_dimensions_and_provenance(tmp_path):
    anndata = pytest.importorskip("anndata")
    table = utterance_table(4, 2).assign(
        start=[0.5, 1, np.nan, 2], turn=[1, 2, 3, 4], **{"a/b": ["x", None, "y", "z"]}
    )
    store = Store.create(tmp_path / "s", Corpus("c", table))
    import_features(store, save_npz(tmp_path / "x.npz", IDS[1:], np.eye(3)), "audio", "a")
    written = anndata.read_h5ad(export_features(store, "audio/a", tmp_path / "y.h5ad"))
    assert written.X.dtype == np.float32
    assert np.isnan(written.X[0]).all()
    np.testing.assert_array_equal(written.X[1:], np.eye(3))
    assert written.obs_names.tolist() == IDS
    assert written.obs["label"].tolist() == table["label"].tolist()
    assert written.obs["turn"].tolist() == [1, 2, 3, 4]
    assert written.obs["a_b"].tolist() == ["x", "", "y", "z"]
    np.testing.assert_array_equal(written.obs["start"], table["start"])
    assert written.obs["vector_status"].tolist() == ["missing", "ok", "ok", "ok"]
    assert written.var_names.tolist() == ["a_0", "a_1", "a_2"]
    assert set(written.var["modality"]) == {"audio"}
    assert '"imported_from": "x.npz"' in written.uns["provenance"]["audio"]


def test_names_that_anndata_cannot_hold_become_names_that_it_can(tmp_path):
    anndata = pytest.importorskip("anndata")
    names = ["a/b", "a_b", "a_b_2", ".", "_index", "vector_status"]
    store = Store.create(
        tmp_path / "s", Corpus("c", utterance_table(4, 2).assign(**{name: name for name in names}))
    )
    import_features(store, save_npz(tmp_path / "x.npz", IDS, np.eye(4)), "audio", "a")
    obs = anndata.read_h5ad(export_features(store, "audio/a", tmp_path / "y.h5ad")).obs
    extra = [name for name in obs if name not in store.corpus.utterances]
    assert extra == ["a_b_2_2", "column.", "column_index", "vector_status_2", "vector_reason"]
    assert obs["a_b"].tolist() == ["a/b"] * 4
    assert obs["vector_status_2"].tolist() == ["vector_status"] * 4
    assert obs["vector_status"].tolist() == ["ok"] * 4


def test_what_anndata_cannot_hold_is_one_line(tmp_path):
    pytest.importorskip("anndata")
    table = utterance_table(4, 2).assign(**{"a\0b": ["x"] * 4})
    store = Store.create(tmp_path / "s", Corpus("c", table))
    import_features(store, save_npz(tmp_path / "x.npz", IDS, np.eye(4)), "audio", "a")
    with pytest.raises(MixedSignalsError, match=r"y\.h5ad: not written \(.*\)$"):
        export_features(store, "audio/a", tmp_path / "y.h5ad")
    assert not list(tmp_path.glob("*y.h5ad*"))


@pytest.mark.parametrize("ending", ["npz", "parquet", "h5ad"])
def test_a_full_disk_is_one_line_that_names_the_file(store, tmp_path, ending):
    if ending == "h5ad":
        pytest.importorskip("anndata")
    vectors = np.random.default_rng(0).normal(size=(4, 5000))
    import_features(store, save_npz(tmp_path / "x.npz", IDS, vectors), "audio", "a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(MixedSignalsError) as caught:
            export_features(store, "audio/a", tmp_path / f"y.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"y.{ending}: not written (" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*y.*"))


def test_joined_views_say_which_modality_a_row_lacks(tmp_path):
    store = Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))
    import_features(store, save_npz(tmp_path / "x.npz", IDS[1:], np.ones((3, 2))), "text", "a")
    import_features(store, save_npz(tmp_path / "x.npz", IDS[:2], np.full((2, 1), 2)), "video", "b")
    views = store.views(text="a", video="b", missing="mask")
    with np.load(export_views(views, tmp_path / "y.npz")) as arrays:
        assert arrays["utterance_id"].tolist() == IDS
        assert arrays["dimension"].tolist() == ["text:a_0", "text:a_1", "video:b_0"]
        assert arrays["status"].tolist() == ["missing", "ok", "missing", "missing"]
        assert arrays["reason"].tolist() == ["without text", "", "without video", "without video"]
        np.testing.assert_array_equal(arrays["embedding"], views.X)
    anndata = pytest.importorskip("anndata")
    written = anndata.read_h5ad(export_views(views, tmp_path / "y.h5ad"))
    assert written.var["modality"].tolist() == ["text", "text", "video"]
    assert written.var["feature_set"].tolist() == ["a", "a", "b"]
    assert sorted(written.uns["provenance"]) == ["text", "video"]


def test_without_anndata_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    store = planted_store(tmp_path, n=8, n_groups=2)
    with pytest.raises(MixedSignalsError, match=r"pip install 'mixed-signals\[anndata\]'"):
        export_features(store, "text/planted", tmp_path / "x.h5ad")
    assert not list(tmp_path.glob("*x.h5ad*"))


# Commands


def test_the_commands_take_vectors_in_and_out(tmp_path):
    store = planted_store(tmp_path, n=8, n_groups=2)
    run = lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    assert run("export", store.path, "text/planted", "--to", tmp_path / "t.npz").exit_code == 0
    taken = run("import", store.path, tmp_path / "t.npz", "--modality", "text", "--name", "again")
    assert taken.exit_code == 0
    np.testing.assert_array_equal(store["text/again"].embedding, store["text/planted"].embedding)
    joined = ("--features", "text=planted,audio=planted", "--missing", "mask", "--to", tmp_path / "j.parquet")
    assert run("export", store.path, *joined).exit_code == 0
    assert pd.read_parquet(tmp_path / "j.parquet").shape == (8, 14)
    for wrong, said in [
        (("export", store.path, "--to", tmp_path / "n.npz"), "name one feature set"),
        (("export", store.path, "text/planted", *joined), "name one feature set"),
        (("export", store.path, "--features", "smell=x", "--to", tmp_path / "n.npz"), "'smell' is none of"),
    ]:
        error = run(*wrong).exception
        assert isinstance(error, UsageError)
        assert said in str(error)
