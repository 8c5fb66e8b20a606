"""Vectors from elsewhere as matrices and tables: joined by id, nothing lost; damage and interruptions are one line."""

import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from exchange_files import IDS, csd_file, mmsa_file, refusal, save_npz
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import planted_store, utterance_table
from typer.testing import CliRunner

from mixed_signals.store import (
    Corpus,
    FeatureWriter,
    MixedSignalsError,
    Store,
    UsageError,
    import_features,
)
from mixed_signals.store.cli import app


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))


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
    for ignore_extra in (False, True):
        said = refusal(store, source, UsageError, ignore_extra=ignore_extra)
        assert "none of its 2 ids is in the corpus: it has 'z1', the corpus 'u000'; write them as" in said
        assert "(--ignore-extra leaves out only some of them)" in said
    save_npz(source, ["u000", "u001", "u000"], np.zeros((3, 2)))
    assert "1 utterance ids come more than once" in refusal(store, source, UsageError)


@pytest.mark.parametrize(("mark", "name"), [(";", "';'"), ("\t", "tabs"), ("|", "'|'")])
def test_a_table_with_another_separator_is_named_as_such(store, tmp_path, mark, name):
    source = tmp_path / "x.csv"
    source.write_text(f"utterance_id{mark}d0\nu000{mark}1,5\n")
    said = refusal(store, source, UsageError)
    assert said == f"{source}: separated by {name}, it seems; save it with commas"


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
