"""Fine-tuning, whole: checkpoints that load anywhere, feature sets that say what taught them, heads that hear it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from tunable import (
    CLASSES,
    BrokenOffError,
    N,
    finetune,
    fit,
    planted_store,
    said_in,
    save_wav2vec2,
    written_metrics,
)

from mixed_signals.extract import hub, pipeline
from mixed_signals.extract import job as extraction
from mixed_signals.extract import request as extraction_request
from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.encoders.text import TextEncoder
from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.in_turn import train_encoders
from mixed_signals.extract.finetune.job import plan
from mixed_signals.extract.finetune.network import load_head
from mixed_signals.extract.finetune.request import Request
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.vectors import make_features
from mixed_signals.models import sweep
from mixed_signals.store import (
    Corpus,
    CrossFit,
    MixedSignalsError,
    Store,
    Target,
    UsageError,
    cross_fitted_views,
    import_features,
    load_run,
)
from mixed_signals.store.provenance import fingerprint

QUICK = Settings(
    epochs=4, learning_rate=3e-3, head_learning_rate=3e-2, layers="all", batch_size=4, patience=0
)
COLUMNS = {
    "split": np.resize(["train", "train", "train", "train", "test", "test"], N),
    "mood": np.resize(["dull", "dull", "keen"], N),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, encoder):
    """A store with a three-way and a nested family of the same encoder, and one that was trained on a split."""
    store = planted_store(tmp_path_factory.mktemp("made"), unlabelled=2, **COLUMNS)
    request = Request(store.path, (("text", str(encoder)),), QUICK, folds=3, seed=1)
    jobs = {
        "three-way": finetune(request),
        "nested": finetune(replace(request, design="nested", name="nested")),
        "split": finetune(replace(request, split="train", name="once")),
    }
    return store, jobs


def test_three_way_makes_two_feature_sets_a_fold_and_heads_read_them(made):
    store, jobs = made
    job, sets = jobs["three-way"]
    assert [s.key for s in sets] == [f"text/tiny.tuned.p{p}f{f}" for f in range(3) for p in (0, 1)]
    for features, member in zip(sets, job.design.members, strict=True):
        fit_of = CrossFit.of(features)
        training = job.design.training(member.makers[0][0])
        assert fit_of.train_ids == member.train_ids
        assert set(features.trained_on) == training.seen
        assert set(features.ids[features.ok]) == {*member.train_ids, *member.test_ids}
        reasons = dict(zip(features.ids, features.reasons, strict=True))
        assert {reasons[i] for i in training.seen} == {"trained its encoder"}
        assert {reasons[i] for i in ("u000", "u001")} == {"without a label"}
        assert (
            features.recipe.weights
            == resolve(str(store.path / features.provenance["checkpoint"])).fingerprint
        )
    views, own, group = cross_fitted_views(store, {"text": "tiny.tuned"})
    assert group == "group"
    done = sweep(views, ["logistic"], folds=own, seeds=(0,), views_by_fold=True, n_jobs=1)
    assert done.info["overrides"] == []
    tested = done.predictions[done.predictions["model"] == "logistic:text"]
    assert (tested.groupby("utterance_id").size() == 2).all()
    assert len(set(tested["utterance_id"])) == N - 2


def test_heads_on_tuned_features_find_what_was_planted(made):
    store, _ = made
    views, own, _ = cross_fitted_views(store, {"text": "tiny.tuned"})
    done = sweep(views, ["logistic"], folds=own, views_by_fold=True, seeds=(0,), n_jobs=1).metrics
    accuracy = done[(done["model"] == "logistic:text") & (done["metric"] == "accuracy")]
    assert float(accuracy["low"].iloc[0]) > 0.65


def test_nested_puts_log_odds_of_several_encoders_together(made):
    store, jobs = made
    job, sets = jobs["nested"]
    assert [s.key for s in sets] == [f"text/tiny.nested.p0f{f}" for f in range(3)]
    assert len(job.design.trainings) == 6
    for features, member in zip(sets, job.design.members, strict=True):
        assert tuple(features.dimensions) == CLASSES
        assert set(features.ids[features.ok]) == {*member.train_ids, *member.test_ids}
        np.testing.assert_allclose(features.stored[features.ok].sum(axis=1), 0, atol=1e-5)
        assert len(features.makers) == 3
        tested = set(member.test_ids)
        for maker, (name, ids) in zip(features.makers, member.makers, strict=True):
            assert maker.rows == set(ids)
            assert maker.trained_on == job.design.training(name).seen
            assert not maker.trained_on & (tested | maker.rows)
    views, own, _ = cross_fitted_views(store, {"text": "tiny.nested"})
    done = sweep(views, ["logistic"], folds=own, seeds=(0,), views_by_fold=True, n_jobs=1)
    assert done.info["overrides"] == []


def test_log_odds_are_what_network_and_linear_layer_say(made):
    store, jobs = made
    job, sets = jobs["nested"]
    member = job.design.members[0]
    name, ids = member.makers[1]
    folder = store.path / "encoders" / "text" / f"tiny.nested.{name}"
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    layer, said = load_head(folder)
    assert said["classes"] == list(CLASSES)
    text = dict(zip(store.corpus.ids, store.corpus.utterances["text"], strict=True))[ids[0]]
    with torch.inference_mode():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    logits = layer["weight"] @ states.mean(dim=0).numpy() + layer["bias"]
    log_p = logits - np.log(np.exp(logits).sum())
    found = sets[0].stored[list(sets[0].ids).index(ids[0])]
    np.testing.assert_allclose(found, log_p - log_p.mean(), atol=1e-4)


def test_a_checkpoint_loads_anywhere_with_a_card_and_without_pickles(made, encoder, tmp_path):
    store, _ = made
    folder = store.path / "encoders" / "text" / "tiny.tuned.p0f0"
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    model = transformers.AutoModel.from_pretrained(moved)
    start = transformers.AutoModel.from_pretrained(encoder)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True))
    assert transformers.AutoTokenizer.from_pretrained(moved)("w1").input_ids
    kept = {path.name for path in folder.iterdir()}
    assert kept >= {
        "config.json",
        "model.safetensors",
        "classifier.safetensors",
        "metrics.jsonl",
        "README.md",
    }
    assert not [p for p in store.path.rglob("*") if p.suffix in (".bin", ".pt", ".pkl", ".part")]
    assert "state" not in kept
    said = json.loads((folder / "training.json").read_text())
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: ")
    for part in (
        "nominal",
        "calm, warm",
        f"{said['score']:.4f}",
        "must not be tested on",
        "torch",
        "seed",
    ):
        assert part in text
    assert said["recipe"]["train_rows"] in text
    assert len([one for one in written_metrics(folder) if "step" not in one]) == QUICK.epochs


def test_a_card_shows_names_as_they_are():
    recipe = {
        **dict.fromkeys(
            ("encoder", "weights", "modality", "target", "kind", "train_rows", "validation_rows"), "x"
        ),
        **{
            "labels": "x",
            "design": "split",
            "training": "train",
            "seed": 0,
            "settings": {},
            "base_model": "",
        },
        **{"corpus": "<script>\n# owned", "classes": ["a|b", "`c`"]},
    }
    rows = {"train_ids": [], "validation_ids": [], "trained_on": []}
    about = {"name": "n", "recipe": recipe, "measure": "macro F1", "score": None, "epoch": 1, "epochs": 1}
    text = card.card({**about, "seconds": 1.0, "versions": {}, **rows})
    assert "<script>" not in text
    assert "\n# owned" not in text
    assert "a\\|b, \\`c\\`" in text


def test_a_family_goes_through_fit_heads(made):
    store, _ = made
    result = fit(store, "--features", "text=tiny.tuned", "--run", "good")
    assert result.exit_code == 0, said_in(result)
    assert load_run(store, "good").info["views_by_fold"]
    result = fit(store, "--features", "text=tiny.tuned", "--folds", "4")
    assert "cross-fitted features have folds of their own" in said_in(result)


def test_under_other_folds_a_member_is_refused_with_the_number_of_rows(made):
    store, jobs = made
    (job, _), member = jobs["nested"], "tiny.nested.p0f1"
    result = fit(store, "--features", f"text={member}", "--folds", "3", "--run", "other")
    assert result.exit_code != 0
    said = said_in(result)
    seen = {one for name, _ in job.design.members[1].makers for one in job.design.training(name).seen}
    assert len(seen) == N - 2 - len(job.design.members[1].test_ids)
    assert f"{len(seen)} test utterances are among those that an encoder's weights were trained on" in said
    assert "--allow-trained-rows" in said


def test_rows_that_trained_the_encoder_taint_even_where_they_have_no_vector(made, tmp_path):
    """Beside another modality, masked: the heads' vectors come from an encoder that saw these rows' labels."""
    store, jobs = made
    sets = jobs["three-way"][1]
    width = np.random.default_rng(0).normal(size=(N, 2))
    np.savez(tmp_path / "x.npz", utterance_id=store.corpus.ids.astype(str), embedding=width)
    import_features(store, tmp_path / "x.npz", "video", "plain")
    flags = ["--features", "text=tiny.tuned.p0f0,video=plain", "--missing", "mask", "--folds", "3"]
    result = fit(store, *flags, "--run", "masked")
    assert result.exit_code != 0
    assert f"{len(sets[0].trained_on)} test utterances are among those" in said_in(result)


def test_a_split_may_be_tested_on_its_test_rows_and_not_on_its_training_rows(made):
    store, jobs = made
    job, (features,) = jobs["split"]
    assert features.key == "text/tiny.once"
    assert features.ok.all()
    trained = set(features.trained_on)
    assert trained == job.design.trainings[0].seen
    result = fit(
        store, "--features", "text=tiny.once", "--split", "split", "--run", "s", "--allow-shared-groups"
    )
    assert result.exit_code == 0, said_in(result)
    result = fit(store, "--features", "text=tiny.once", "--folds", "3", "--run", "bad")
    assert result.exit_code != 0
    assert (
        f"{len(trained)} test utterances are among those that an encoder's weights were trained on"
        in said_in(result)
    )


def test_extraction_with_a_tuned_checkpoint_remembers_what_trained_it(made):
    store, jobs = made
    folder = store.path / "encoders" / "text" / "tiny.once"
    (task,) = extraction.plan(store, [make_encoder("text", str(folder), device="cpu")], name="again")
    (outcome,) = pipeline.run(store, [task])
    assert set(outcome.features.trained_on) == jobs["split"][0].design.trainings[0].seen
    np.testing.assert_allclose(outcome.features.stored, jobs["split"][1][0].stored, atol=1e-6)


def test_a_copy_without_what_says_on_what_it_was_trained_is_refused(made, tmp_path):
    store, jobs = made
    once = store.path / "encoders" / "text" / "tiny.once"
    transformers.AutoModel.from_pretrained(once).save_pretrained(tmp_path / "again")
    transformers.AutoTokenizer.from_pretrained(once).save_pretrained(tmp_path / "again")
    again = make_encoder("text", str(tmp_path / "again"), device="cpu")
    with pytest.raises(MixedSignalsError, match=r"was trained by finetune-encoders, and the training\.json"):
        extraction.plan(store, [again])
    shutil.copy(once / "training.json", tmp_path / "again")
    again = make_encoder("text", str(tmp_path / "again"), device="cpu")
    assert set(again.trained_on) == jobs["split"][0].design.trainings[0].seen


def test_speakers_that_taught_weights_before_are_not_tested_either(made, tmp_path):
    """Though none of the rows that taught them is: these have no label now."""
    store, _ = made
    copy = shutil.copytree(store.path / "encoders" / "text" / "tiny.once", tmp_path / "of_two")
    said, config = (json.loads((copy / name).read_text()) for name in ("training.json", "config.json"))
    said["trained_on"] = store.corpus.ids[:2].tolist()
    (copy / "training.json").write_text(json.dumps(said))
    (copy / "config.json").write_text(json.dumps(config | {hub.TAUGHT: fingerprint(said["trained_on"])}))
    request = Request(store.path, (("text", str(copy)),), replace(QUICK, epochs=1), name="more", folds=3)
    for design in ("three-way", "nested"):
        with pytest.raises(UsageError, match=r"were trained on others of group g0, of whom"):
            plan(replace(request, design=design), "cpu")
    assert plan(replace(request, group="none"), "cpu").todo


def test_weights_that_were_tuned_before_bring_their_training_rows_with_them(made):
    """Else a second tuning would wash out what the first one saw."""
    store, jobs = made
    once = store.path / "encoders" / "text" / "tiny.once"
    request = Request(store.path, (("text", str(once)),), replace(QUICK, epochs=1), name="twice", folds=3)
    seen = jobs["split"][0].design.trainings[0].seen
    for design in ("three-way", "nested"):
        with pytest.raises(UsageError, match=f"weights were trained on {len(seen)} of the utterances"):
            plan(replace(request, design=design), "cpu")
    job, (features,) = finetune(replace(request, split="test"))
    assert set(features.trained_on) == seen | job.design.trainings[0].seen > seen
    assert set(features.makers[0].trained_on) == set(features.trained_on)


def test_what_a_set_failed_to_say_of_its_training_is_put_right(made, tmp_path):
    """Its vectors stay; extracted by a copy of the checkpoint that said nothing, then by one that does."""
    store, jobs = made
    once, name = store.path / "encoders" / "text" / "tiny.once", "text/of_copy"
    copy = shutil.copytree(once, tmp_path / "of_copy")
    (copy / "training.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    del config[hub.TAUGHT]
    (copy / "config.json").write_text(json.dumps(config))

    def extract():
        tasks = extraction.plan(store, [make_encoder("text", str(copy), device="cpu")])
        idle = tasks[0].idle
        return idle, pipeline.run(store, tasks)[0].features

    assert not extract()[1].trained_on
    before = store[name].embedding
    shutil.copy(once / "training.json", copy)
    idle, features = extract()
    assert not idle
    assert set(features.trained_on) == jobs["split"][0].design.trainings[0].seen
    np.testing.assert_array_equal(features.embedding, before)
    assert extract()[0]
    store.feature_path("text", "of_copy").unlink()


def test_extraction_leaves_the_sets_of_folds_alone_and_training_again_brings_them_up_to_date(
    tmp_path, encoder
):
    store = planted_store(tmp_path, unlabelled=2)
    request = Request(store.path, (("text", str(encoder)),), replace(QUICK, epochs=1), folds=2, seed=1)
    finetune(request)
    Store.create(store.path, Corpus("planted", store.corpus.utterances[2:]), replace=True)
    flags = ["--features", "text=tiny.tuned", "--heads", "logistic", "--jobs", "1"]
    said = str(fit(store, *flags).exception)
    assert "run finetune-encoders again, which drops them" in said
    checkpoint = str(store.path / "encoders" / "text" / "tiny.tuned.p0f0")
    extraction_call = extraction_request.Request(store.path, (("text", checkpoint),))
    opened = extraction_call.open()
    with pytest.raises(UsageError, match="is of one fold, made by finetune-encoders"):
        extraction_call.plan(opened, extraction_call.make_encoders("cpu"))
    _, sets = finetune(request)
    assert all(features.cross_fitted and len(features) == N - 2 for features in sets)
    assert fit(store, *flags).exit_code == 0


def test_a_second_call_does_nothing(made, encoder):
    store, jobs = made
    for design, (job, sets) in jobs.items():
        before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
        again = plan(job.request, "cpu")
        assert again.design == job.design
        assert again.todo == []
        train_encoders(again, on_step=lambda step: pytest.fail("trained again"))
        found = make_features(again, on_rows=lambda n: pytest.fail("made again"))
        assert [one.content_fingerprint for one in found] == [one.content_fingerprint for one in sets]
        after = {path: path.stat().st_mtime_ns for path in before if not path.name.endswith(".lock")}
        assert {path for path, at in after.items() if at != before[path]} == set(), design


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 2}, "seed: 1 there, 2 now"),
        ({"settings": replace(QUICK, epochs=9)}, "epochs: 4 there, 9 now"),
        ({"folds": 2}, "made by another design or number of folds"),
        ({"design": "nested"}, "made by another design or number of folds"),
        ({"split": "train"}, "made by another design or number of folds"),
        ({"target": "mood"}, "target: 'label' there, 'mood' now"),
    ],
)
def test_another_recipe_under_a_name_is_refused(made, change, said):
    _, jobs = made
    with pytest.raises(UsageError, match=r"\(--name\)") as caught:
        plan(replace(jobs["three-way"][0].request, **change), "cpu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_broken_off_goes_on_and_comes_to_the_same(tmp_path, encoder, made):
    """Stopped in the middle of the second training; the first stays, the second goes on from its last epoch."""
    store = planted_store(tmp_path, unlabelled=2, **COLUMNS)
    request = Request(store.path, (("text", str(encoder)),), QUICK, folds=3, seed=1)

    def stop(step):
        if step.number == 2 and (step.progress.epoch, step.progress.step) == (3, 1):
            raise BrokenOffError

    job = plan(request, "cpu")
    with pytest.raises(BrokenOffError):
        train_encoders(job, on_step=stop)
    again = plan(request, "cpu")
    assert [t.name for _, t in again.todo] == [t.name for t in job.design.trainings][1:]
    with pytest.raises(UsageError, match="seed: 1 there, 3 now"):
        plan(replace(request, seed=3), "cpu")
    seen = []
    train_encoders(again, todo=again.todo[:1], on_step=lambda step: seen.append(step.progress.epoch))
    assert min(seen) == 3
    for name in ("p0f0", "p1f0"):
        whole = made[0].path / "encoders" / "text" / f"tiny.tuned.{name}"
        resumed = store.path / "encoders" / "text" / f"tiny.tuned.{name}"
        for file in ("model.safetensors", "classifier.safetensors"):
            assert (whole / file).read_bytes() == (resumed / file).read_bytes()


def test_two_modalities_share_their_folds_and_fuse(tmp_path, encoder):
    store = planted_store(tmp_path, "audio", n=32)
    speech = save_wav2vec2(tmp_path / "ears")
    quick = replace(QUICK, epochs=1)
    request = Request(store.path, (("text", str(encoder)), ("audio", str(speech))), quick, folds=2)
    job, sets = finetune(request)
    assert [s.modality for s in sets] == ["text"] * 4 + ["audio"] * 4
    assert all(s.coverage["failed"] == 0 for s in sets)
    views, own, _ = cross_fitted_views(store, {"text": "tiny.tuned", "audio": "ears.tuned"})
    assert all(
        v.present[np.isin(v.ids, [*f.train_ids, *f.test_ids])].all() for v, f in zip(views, own, strict=True)
    )
    base = job.families[1].encoder.outputs[0].recipe
    assert {
        s.recipe.preprocessing == base.preprocessing and s.recipe.pooling == base.pooling for s in sets[4:]
    } == {True}


def test_an_interval_target_gives_values_of_its_own_units(tmp_path, encoder):
    store = planted_store(tmp_path / "words")
    table = store.corpus.utterances.copy()
    table["valence"] = np.where(table["label"] == "warm", 7.0, 3.0) + np.random.default_rng(0).normal(
        0, 0.2, N
    )
    store = Store.create(tmp_path / "values", Corpus("v", table, declared=(Target("valence", "interval"),)))
    request = Request(
        store.path, (("text", str(encoder)),), QUICK, target="valence", design="nested", folds=3
    )
    _, sets = finetune(request)
    values = sets[0].stored[sets[0].ok][:, 0]
    assert tuple(sets[0].dimensions) == ("value",)
    truth = table["valence"].to_numpy()[sets[0].ok]
    assert np.corrcoef(values, truth)[0, 1] > 0.5
    assert 3 < values.mean() < 7


def test_what_cannot_be_trained_is_said(tmp_path, encoder):
    store = planted_store(tmp_path)
    text = (("text", str(encoder)),)
    for request, said in (
        (
            Request(store.path, (("audio", "egemaps"),)),
            "--audio egemaps: has no network that could be trained",
        ),
        (Request(store.path, (("text", f"{encoder}:1"),)), "trained at its own layer and pooling"),
        (Request(store.path, text * 2), "--text: one encoder at a time"),
        (Request(store.path, ()), "name at least one encoder"),
        (Request(store.path, text, design="plain"), "--design 'plain': use three-way or nested"),
        (Request(store.path, text, name="a/b"), "--name 'a/b'"),
        (Request(store.path, text, folds=9), "8 groups cannot make 9 folds"),
        (Request(store.path, text, split="train"), "--split train: no labelled utterance says so"),
        (Request(store.path, text, group="dialog"), "no column 'dialog'"),
    ):
        with pytest.raises(UsageError) as caught:
            plan(request, "cpu")
        assert said in str(caught.value)


def test_a_tuned_encoder_reads_as_the_one_it_came_from(made, encoder):
    store, _ = made
    tuned = TextEncoder(resolve(str(store.path / "encoders" / "text" / "tiny.once")))
    start = TextEncoder(resolve(str(encoder)))
    changed = {"encoder", "weights"}
    said = [vars(one.outputs[0].recipe) for one in (tuned, start)]
    assert {k: v for k, v in said[0].items() if k not in changed} == {
        k: v for k, v in said[1].items() if k not in changed
    }
    assert said[0]["weights"] != said[1]["weights"]
