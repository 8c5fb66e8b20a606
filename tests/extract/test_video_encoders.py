"""Video networks, against transformers' own processors and models, called one window at a time by a plain loop."""

import json
import math
import pickle
import shutil

import av
import numpy as np
import pytest
import torch

from mixed_signals.extract.checkpoints import resolve
from mixed_signals.extract.encoders import NETWORKS, make_encoder
from mixed_signals.extract.encoders.transformer import Readout
from mixed_signals.extract.encoders.video import ClipEncoder, FrameEncoder
from mixed_signals.extract.encoders.windows import WindowReader, trained_rate
from mixed_signals.extract.media import Clip
from mixed_signals.store import MixedSignalsError, Status, UsageError

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 16,
}
CLIPS = ("videomae", "timesformer", "vivit", "vjepa2")
FRAMES = (
    *("clip", "clip_vision_model", "siglip", "siglip_vision_model"),
    *("dinov2", "dinov2_with_registers", "dinov3_vit", "vit"),
)
SECONDS = {"videomae": 4 * 4 / 30, "timesformer": 4 * 32 / 30, "vivit": 4 * 2 / 30, "vjepa2": 4 / 4}
"""The windows of four pictures each, as the papers have strides."""


def network_and_processor(kind):
    """Return a tiny random network, and what its published preprocessor configuration would hold."""
    import transformers as t

    size = {"shortest_edge": 36}
    cropped = {
        "size": size,
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "do_resize": True,
    }
    square = {"size": {"height": 32, "width": 32}, "do_resize": True}
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    videomae = cropped | imagenet | {"image_processor_type": "VideoMAEImageProcessor"}
    clip = cropped | {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3}
    siglip = square | {"image_processor_type": "SiglipImageProcessor", "resample": 3}
    bit = cropped | imagenet | {"image_processor_type": "BitImageProcessor"}
    text = {**SMALL, "vocab_size": 30, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    if kind == "videomae":
        return t.VideoMAEModel(t.VideoMAEConfig(**SMALL, num_frames=4, use_mean_pooling=False)), videomae
    if kind == "timesformer":
        return t.TimesformerModel(t.TimesformerConfig(**SMALL, num_frames=4)), videomae
    if kind == "vivit":
        config = t.VivitConfig(**SMALL, num_frames=4, tubelet_size=[2, 16, 16])
        return t.VivitModel(config), cropped | {"image_processor_type": "ViViTImageProcessor"}
    if kind == "vjepa2":
        own = {"crop_size": 32, "frames_per_clip": 4, "mlp_ratio": 1.5, "pred_hidden_size": 24}
        config = t.VJEPA2Config(**SMALL, **own, pred_num_attention_heads=4, pred_num_hidden_layers=1)
        return t.VJEPA2Model(config), cropped | imagenet | {"video_processor_type": "VJEPA2VideoProcessor"}
    if kind == "clip":
        return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=8)), clip
    if kind == "clip_vision_model":
        return t.CLIPVisionModel(t.CLIPVisionConfig(**SMALL)), clip
    if kind == "siglip":
        return t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=SMALL)), siglip
    if kind == "siglip_vision_model":
        return t.SiglipVisionModel(t.SiglipVisionConfig(**SMALL)), siglip
    if kind == "dinov2":
        config = t.Dinov2Config(**SMALL | {"image_size": 48}, mlp_ratio=2)  # trained on larger pictures
        return t.Dinov2Model(config), bit
    if kind == "dinov2_with_registers":
        return t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SMALL, mlp_ratio=2)), bit
    if kind == "dinov3_vit":
        config = t.DINOv3ViTConfig(**SMALL, num_register_tokens=2)
        return t.DINOv3ViTModel(config), square | {"image_processor_type": "DINOv3ViTImageProcessorFast"}
    return t.ViTModel(t.ViTConfig(**SMALL)), square | {"image_processor_type": "ViTImageProcessor"}


def saved(kind, folder):
    torch.manual_seed(0)
    network, processor = network_and_processor(kind)
    for weights in network.parameters():  # as they begin, hardly anything depends on the picture
        weights.data += 0.1 * torch.randn_like(weights)
    network.save_pretrained(folder)
    name = "video_preprocessor_config.json" if kind == "vjepa2" else "preprocessor_config.json"
    (folder / name).write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of each kind's checkpoint, by kind."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: saved(kind, root / kind) for kind in (*CLIPS, *FRAMES)}


def encoder_of(folder, kind, readouts=(), **options):
    cls = ClipEncoder if kind in CLIPS else FrameEncoder
    return cls(resolve(str(folder)), [Readout(*pair) for pair in readouts], **options)


def loaded(*arguments, **options):
    encoder = encoder_of(*arguments, **options)
    encoder.load()
    return encoder


def on_screen(time, kind):
    """Return what a made-up film shows at a time: 25 pictures a second, each other noise, brighter and brighter.

    Where the published processor needs torchvision, of a size that needs no resizing.
    """
    height, width = {"vjepa2": (36, 51), "dinov3_vit": (32, 32)}.get(kind, (41, 57))
    noise = np.random.default_rng(int(time * 25)).integers(0, 128, (height, width, 3))
    return (noise + min(int(30 * time), 127)).astype(np.uint8)


def read(encoder, kind, start, stop):
    reader = pickle.loads(pickle.dumps(encoder.reader))  # as it travels to a worker process
    reader.load()
    return reader.read([reader.look(on_screen(time, kind)) for time in reader.times(start, stop)])


def vectors(encoder, inputs):
    found = encoder.encode(encoder.pack(inputs))
    assert all(one.status == Status.OK for one in found), [one.reason for one in found]
    return [one.vectors for one in found]


# The plain reference: one window at a time, in numpy where it can be.


def pixel_values(folder, kind, picture):
    if kind in ("vjepa2", "dinov3_vit"):
        top, left = ((side - 32) // 2 for side in picture.shape[:2])
        cut = picture[top : top + 32, left : left + 32].transpose(2, 0, 1) / 255
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        return torch.tensor((cut - mean[:, None, None]) / std[:, None, None], dtype=torch.float32)
    if kind == "vivit":
        from transformers import VivitImageProcessor as Processor
    else:
        from transformers import AutoImageProcessor as Processor
    if folder not in PROCESSORS:
        PROCESSORS[folder] = Processor.from_pretrained(folder)
    return torch.as_tensor(np.array(PROCESSORS[folder]([picture])["pixel_values"]).reshape(3, 32, 32))


PROCESSORS = {}


def model_of(folder, kind):
    from transformers import AutoModel, CLIPVisionModel, SiglipVisionModel

    towers = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    return towers.get(kind, AutoModel).from_pretrained(folder).eval()


def positions(folder, kind, layer, start, stop, frame_rate=None):
    """Return a list of windows, each (positions, D) in float64, of clips; one of all pictures otherwise."""
    model = model_of(folder, kind)
    seconds = (4 / frame_rate if frame_rate else SECONDS[kind]) if kind in CLIPS else 1 / (frame_rate or 4)
    frames = 4 if kind in CLIPS else 1
    n = max(math.ceil((stop - start) / seconds), 1)
    windows = []
    for number in range(n):
        begin = start + number * (stop - start) / n
        part = (stop - start) / n / frames
        times = [begin + (i + 0.5) * part for i in range(frames)]
        pixels = torch.stack([pixel_values(folder, kind, on_screen(time, kind)) for time in times])
        with torch.no_grad():
            if kind in CLIPS:
                inputs = {"pixel_values_videos" if kind == "vjepa2" else "pixel_values": pixels[None]}
                output = model(**inputs, output_hidden_states=True)
                state = output.last_hidden_state if layer == "last" else output.hidden_states[int(layer)]
                windows.append(state[0].double().numpy())
                continue
            output = model(pixels, output_hidden_states=True)
            if layer != "last":
                state = output.hidden_states[int(layer)]
                vector = state.mean(dim=1) if "siglip" in kind else state[:, 0]
            else:
                vector = output.last_hidden_state[:, 0] if kind == "vit" else output.pooler_output
            windows.append(vector.double().numpy())
    return windows if kind in CLIPS else [np.concatenate(windows)]


def pooled(windows, pooling):
    every = np.concatenate(windows)
    return {
        "mean": lambda: every.mean(axis=0),
        "max": lambda: every.max(axis=0),
        "std": lambda: every.std(axis=0),
        "first": lambda: np.mean([window[0] for window in windows], axis=0),
        "last": lambda: np.mean([window[-1] for window in windows], axis=0),
    }[pooling]()


def assert_near(got, wanted, tolerance=1e-5):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


READOUTS = (("last", "mean"), ("last", "std"), ("0", "first"), ("2", "max"), ("3", "last"))


@pytest.mark.parametrize("kind", [*CLIPS, *FRAMES])
def test_layers_and_poolings_are_those_of_a_plain_loop(kind, folders):
    start, stop = 0.3, 0.3 + (2.3 * SECONDS[kind] if kind in CLIPS else 1.3)  # three windows; six pictures
    encoder = loaded(folders[kind], kind, READOUTS)
    (found,) = vectors(encoder, [read(encoder, kind, start, stop)])
    for (layer, pooling), vector in zip(READOUTS, found, strict=True):
        wanted = pooled(positions(folders[kind], kind, layer, start, stop), pooling)
        assert vector.dtype == np.float32
        assert_near(vector, wanted)


@pytest.mark.parametrize("kind", [*CLIPS, *FRAMES])
def test_utterances_of_any_length_are_the_same_together_and_alone(kind, folders):
    encoder = loaded(folders[kind], kind, [("last", "mean"), ("1", "std"), ("last", "last")])
    seconds = SECONDS.get(kind, 0.25)
    inputs = [read(encoder, kind, 0.2, 0.2 + spans * seconds) for spans in (0.3, 3.1, 1.0, 3.9, 0.01)]
    encoder.budget = 40 * encoder.length(encoder.windows(inputs[0])[0])
    packed = encoder.pack(inputs)
    assert len(packed.passes) == 1
    together = vectors(encoder, inputs)
    for one, found in zip(inputs, together, strict=True):
        (apart,) = vectors(encoder, [one])
        for alone, batched in zip(apart, found, strict=True):
            assert_near(batched, alone)
    assert np.abs(together[0][0] - together[3][0]).max() > 0.01 * np.abs(together[0][0]).max()


@pytest.mark.parametrize("kind", ["timesformer", "siglip"])
def test_all_that_is_read_off_comes_out_of_one_pass_of_the_network(kind, folders):
    encoder = loaded(folders[kind], kind, READOUTS)
    calls = []
    encoder._network.register_forward_hook(lambda *_: calls.append(1))
    (several,) = vectors(encoder, [read(encoder, kind, 0, SECONDS.get(kind, 0.75))])
    assert len(calls) == 1
    assert [(one.layer, one.pooling) for one in encoder.outputs] == list(READOUTS)
    for readout, vector in zip(READOUTS, several, strict=True):
        single = loaded(folders[kind], kind, [readout])
        (apart,) = vectors(single, [read(single, kind, 0, SECONDS.get(kind, 0.75))])
        assert_near(vector, apart[0], 1e-6)


@pytest.mark.parametrize("kind", ["videomae", "clip"])
def test_an_encoders_own_readout_is_the_mean_of_the_last_layer(kind, folders):
    own, named = loaded(folders[kind], kind), loaded(folders[kind], kind, [("", "")])
    (of_own,), (of_named,) = (vectors(one, [read(one, kind, 0, 0.9)]) for one in (own, named))
    np.testing.assert_array_equal(of_own[0], of_named[0])
    (output,) = own.outputs
    assert (output.layer, output.pooling, output.recipe.pooling) == ("", "", "mean")
    assert (named.outputs[0].layer, named.outputs[0].pooling) == ("last", "mean")
    assert len(output.dimensions) == len(of_own[0]) == 32
    assert own.modality == "video"


# When it looks.


def windows_of(seconds, frames, start, stop):
    return WindowReader(None, frames, seconds).times(start, stop).reshape(-1, frames)


def test_windows_are_equal_and_pictures_in_the_middle_of_equal_parts():
    np.testing.assert_allclose(windows_of(2, 4, 10, 12), [[10.25, 10.75, 11.25, 11.75]])
    np.testing.assert_allclose(windows_of(2, 2, 0, 3), [[0.375, 1.125], [1.875, 2.625]])
    np.testing.assert_allclose(windows_of(0.25, 1, 1, 2), [[1.125], [1.375], [1.625], [1.875]])
    np.testing.assert_allclose(windows_of(0.25, 1, 1, 1.02), [[1.01]])  # a short span: its middle


@pytest.mark.parametrize("span", [0.001, 0.5, 1.99, 2.0, 2.01, 61.7])
def test_no_window_is_longer_than_allowed_and_none_is_needless(span):
    for seconds in (16 / 30, 2.0, 0.25):
        times = windows_of(seconds, 4, 7.3, 7.3 + span)
        assert len(times) == max(math.ceil(round(span / seconds, 9)), 1)
        assert times.min() > 7.3
        assert times.max() < 7.3 + span
        np.testing.assert_allclose(np.diff(times.ravel()), span / times.size)


def test_a_film_is_looked_at_in_the_middle_of_the_parts_of_its_windows(folders, tmp_path):
    """A film of 50 pictures, 25 a second, each 4 levels brighter than the one before it."""
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate = 64, 48, 4_000_000
        for number in range(50):
            grey = np.full((48, 64, 3), 20 + 4 * number, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        film.mux(stream.encode())
    clips, frames = (encoder_of(folders[kind], kind) for kind in ("videomae", "siglip"))
    clip = Clip("film", media=tmp_path / "film.mp4", start=0.4, end=1.4)
    of_clips, of_frames = clip.look([clips.reader, frames.reader])
    shown = [(clips.reader.read(of_clips), 8), (frames.reader.read(of_frames), 4)]
    assert [one.shape[:2] for one, _ in shown] == [
        (2, 4),
        (4, 1),
    ]  # a second is two windows of at most 0.53 s
    for one, n in shown:
        times = 0.4 + (np.arange(n) + 0.5) / n
        wanted = 20 + 4 * np.floor(times * 25)
        assert np.abs(one.reshape(n, -1).mean(axis=1) - wanted).max() < 2


def test_rounding_of_the_span_makes_no_window_more():
    assert len(windows_of(0.1, 1, 0.1, 0.1 + 3 * 0.1)) == 3
    assert len(windows_of(0.1, 1, 0.7, 0.8)) == 1


def test_windows_last_as_long_as_clips_in_training():
    """16 x 4, 32 x 2, 8 x 32, HR 16 x 16 and L 96 x 4 frames of 30 a second; 64 frames, 4 a second."""
    for kind, frames, seconds in (
        ("videomae", 16, 64 / 30),
        ("vivit", 32, 64 / 30),
        ("timesformer", 8, 256 / 30),
        ("timesformer", 16, 256 / 30),
        ("timesformer", 96, 384 / 30),
        ("vjepa2", 64, 16),
    ):
        assert frames / trained_rate(kind, frames) == pytest.approx(seconds)


@pytest.mark.parametrize("kind", ["videomae", "dinov2"])
def test_a_frame_rate_of_ones_own_changes_windows_and_recipe(kind, folders):
    own, other = encoder_of(folders[kind], kind), loaded(folders[kind], kind, frame_rate=10)
    span = (0.1, 1.0)
    times = other.reader.times(*span)
    assert len(times) == {"videomae": 12, "dinov2": 9}[kind]  # three windows of at most 0.4 s; 9 pictures
    (found,) = vectors(other, [read(other, kind, *span)])
    assert_near(found[0], pooled(positions(folders[kind], kind, "last", *span, frame_rate=10), "mean"))
    recipes = [one.outputs[0].recipe for one in (own, other)]
    assert recipes[0].fingerprint != recipes[1].fingerprint
    said = [recipe.preprocessing for recipe in recipes]
    assert said[0].pop("pictures") == said[1].pop("pictures") == own._pictures.said
    assert (
        said
        == {
            "videomae": [
                {"frames": 4, "window_seconds": round(16 / 30, 6)},
                {"frames": 4, "window_seconds": 0.4},
            ],
            "dinov2": [{"frames_per_second": 4.0}, {"frames_per_second": 10}],
        }[kind]
    )


def test_batches_are_planned_by_windows(folders):
    encoder = encoder_of(folders["vjepa2"], "vjepa2")  # windows of one second, 8 tokens each
    encoder.budget = 8
    lengths = np.array([0.2, 9.0, 0.9, 1.0, 0.1, 2.5, 1.1])
    planned = encoder.batches(lengths)  # each worth four passes
    assert [set(batch) for batch in planned] == [{1}, {5}, {6, 0}, {2, 3, 4}]
    assert sorted(np.concatenate(planned)) == list(range(7))


def test_a_rate_written_as_a_whole_number_is_the_same_recipe(folders):
    own, whole = encoder_of(folders["vit"], "vit"), encoder_of(folders["vit"], "vit", frame_rate=4)
    assert own.outputs[0].recipe.fingerprint == whole.outputs[0].recipe.fingerprint


# Memory.


def test_many_pictures_go_through_the_network_in_pieces_and_pool_as_one(folders):
    encoder = loaded(folders["vit"], "vit", [("last", "first"), ("last", "std")])
    looked = read(encoder, "vit", 0, 6)
    (whole,) = vectors(encoder, [looked])
    encoder.budget = 5 * encoder._tokens
    calls = []
    encoder._network.register_forward_hook(lambda *given: calls.append(len(given[2].last_hidden_state)))
    (pieces,) = vectors(encoder, [looked])
    assert calls == [5, 5, 5, 5, 4]
    for one, other in zip(whole, pieces, strict=True):
        assert_near(one, other)


def test_pieces_are_halved_when_memory_runs_out_and_stay_so(folders):
    encoder = loaded(folders["dinov2"], "dinov2")
    inputs = [read(encoder, "dinov2", 0, span) for span in (4, 0.5, 2.2)]
    wanted = vectors(encoder, inputs)
    calls = []

    def too_many(module, arguments, given):
        calls.append(len(given["pixel_values"]))
        if calls[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder._network.register_forward_pre_hook(too_many, with_kwargs=True)
    found = vectors(encoder, inputs)
    for one, other in zip(wanted, found, strict=True):
        assert_near(one[0], other[0])
    assert encoder.budget < 4 * encoder._tokens
    calls.clear()
    vectors(encoder, inputs)
    assert max(calls) <= 3


def test_a_picture_that_does_not_fit_alone_fails_its_utterance(folders):
    encoder = loaded(folders["dinov2"], "dinov2")

    def none_fits(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder._network.register_forward_pre_hook(none_fits)
    (found,) = encoder.encode(encoder.pack([read(encoder, "dinov2", 0, 1)]))
    assert found.status == Status.FAILED
    assert "not enough memory" in found.reason


@pytest.mark.parametrize("kind", ["videomae", "timesformer", "vjepa2", "dinov2", "siglip"])
def test_mixed_precision_is_near(kind, folders):
    exact, mixed = (loaded(folders[kind], kind, dtype=dtype) for dtype in ("float32", "bfloat16"))
    looked = read(exact, kind, 0, 1.1)
    (wanted,), (got,) = vectors(exact, [looked]), vectors(mixed, [looked])
    assert 0 < np.abs(got[0] - wanted[0]).max() < 0.05 * np.abs(wanted[0]).max()


# Which weights, and which of what networks give.


def test_the_predictor_of_vjepa2_is_not_run(folders):
    encoder = loaded(folders["vjepa2"], "vjepa2", [("1", "mean")])
    encoder._network.predictor.register_forward_pre_hook(lambda *_: pytest.fail("the predictor was run"))
    vectors(encoder, [read(encoder, "vjepa2", 0, 1)])


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("videomae", "VideoMAEForPreTraining"),
        ("timesformer", "TimesformerForVideoClassification"),
        ("vivit", "VivitForVideoClassification"),
        ("vjepa2", "VJEPA2ForVideoClassification"),
        ("vit", "ViTForImageClassification"),
        ("dinov2", "Dinov2ForImageClassification"),
        ("clip_vision_model", "CLIPVisionModelWithProjection"),
    ],
)
def test_a_checkpoint_with_a_head_gives_the_vectors_of_the_network_below(kind, cls, folders, tmp_path):
    """ViT and ViViT with heads have no pooler: it is not used."""
    import transformers

    bare = model_of(folders[kind], kind)
    config = bare.config
    if kind == "videomae":
        config.decoder_num_hidden_layers, config.decoder_hidden_size, config.decoder_intermediate_size = (
            1,
            12,
            8,
        )
    if kind == "vjepa2":
        config.num_pooler_layers = 1
    headed = getattr(transformers, cls)(config)
    name = {"clip_vision_model": "vision_model"}.get(kind, headed.base_model_prefix)
    getattr(headed, name).load_state_dict(bare.state_dict(), strict=False)
    headed.save_pretrained(tmp_path / "headed")
    for file in folders[kind].glob("*preprocessor_config.json"):
        shutil.copy(file, tmp_path / "headed")
    encoder = loaded(tmp_path / "headed", kind)
    (found,) = vectors(encoder, [read(encoder, kind, 0, 0.2)])
    assert_near(found[0], pooled(positions(folders[kind], kind, "last", 0, 0.2), "mean"))


def test_weights_of_siglips_pooling_head_are_needed(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["siglip_vision_model"], tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "head." not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MixedSignalsError, match="would be random"):
        loaded(folder, "siglip_vision_model")


def edited(folder, to, file, **changes):
    """Return a copy of a checkpoint with a file of other content; None takes a key out."""
    copy = shutil.copytree(folder, to)
    content = json.loads((copy / file).read_text()) | changes
    (copy / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return copy


def test_what_a_configuration_leaves_out_is_as_in_transformers(folders, tmp_path):
    of_vjepa2 = {"hidden_size": None, "num_hidden_layers": None}
    for kind, left_out, dimensions, layers in (
        ("siglip", {"vision_config": {}}, 768, 12),
        ("clip", {"vision_config": {}}, 768, 12),
        ("vjepa2", of_vjepa2, 1024, 24),
    ):
        folder = edited(folders[kind], tmp_path / kind, "config.json", **left_out)
        if kind != "vjepa2":
            (folder / "preprocessor_config.json").write_text(json.dumps({"do_convert_rgb": True}))
        encoder = encoder_of(folder, kind)
        assert (encoder.width, encoder.n_layers) == (dimensions, layers)
        assert len(encoder.outputs[0].dimensions) == dimensions


# What is refused.


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_a_frame_rate_is_above_0(rate, folders):
    with pytest.raises(UsageError, match="--frame-rate"):
        encoder_of(folders["vit"], "vit", frame_rate=rate)


def test_layers_are_those_of_the_vision_tower(folders):
    with pytest.raises(UsageError, match=r"no layer '4': use last, or a number from 0 \(embeddings\) to 3"):
        encoder_of(folders["clip"], "clip", [("4", "mean")])


def test_pictures_of_a_size_that_the_network_does_not_take_are_refused_before_any_work(folders, tmp_path):
    for kind in ("videomae", "timesformer", "vivit", "clip", "siglip_vision_model", "vit"):
        size = {"crop_size": 48, "size": {"height": 48, "width": 48}}
        folder = edited(folders[kind], tmp_path / kind, "preprocessor_config.json", **size)
        with pytest.raises(MixedSignalsError, match=r"prepared to 48x48, its network takes 32x32"):
            encoder_of(folder, kind)


@pytest.mark.parametrize("kind", ["vjepa2", "dinov2", "dinov2_with_registers", "dinov3_vit"])
def test_networks_that_take_any_size_take_another(kind, folders, tmp_path):
    file = "video_preprocessor_config.json" if kind == "vjepa2" else "preprocessor_config.json"
    size = {"crop_size": {"height": 48, "width": 48}}
    size["size"] = {"height": 48, "width": 48} if kind == "dinov3_vit" else {"shortest_edge": 50}
    folder = edited(folders[kind], tmp_path / kind, file, **size)
    encoder = loaded(folder, kind)
    vectors(encoder, [read(encoder, kind, 0, 0.5)])


def test_a_checkpoint_that_does_not_say_how_pictures_are_prepared_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "bare")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(MixedSignalsError, match=r"bare has no preprocessor_config.json: copy it"):
        encoder_of(folder, "vit")


def test_siglip_without_its_pooling_head_is_refused(folders, tmp_path):
    folder = edited(folders["siglip_vision_model"], tmp_path / "no", "config.json", vision_use_head=False)
    with pytest.raises(MixedSignalsError, match="no pooling head"):
        encoder_of(folder, "siglip_vision_model")


@pytest.mark.parametrize("kind", [kind for kind, (modality, _) in NETWORKS.items() if modality == "video"])
def test_every_registered_type_is_made_from_its_folder(kind, folders):
    encoder = make_encoder("video", f"{folders[kind]}:1+last:std", frame_rate=5)
    assert isinstance(encoder, ClipEncoder if kind in CLIPS else FrameEncoder)
    assert encoder.name == kind
    assert [output.layer for output in encoder.outputs] == ["1", "last"]
    encoder.load()
    (found,) = vectors(encoder, [read(encoder, kind, 0, 1)])
    assert_near(found[1], pooled(positions(folders[kind], kind, "last", 0, 1, frame_rate=5), "std"))
