"""Preparing pictures, against transformers' own processors and, where those need torchvision, against torch."""

import json

import numpy as np
import pytest
import torch

from mixed_signals.extract.encoders import pictures as pictures_module
from mixed_signals.extract.encoders import windows as windows_module
from mixed_signals.extract.encoders.pictures import PROCESSORS, Pictures, pictures_of
from mixed_signals.store import MixedSignalsError

SIZES = ((37, 53), (53, 37), (240, 321), (19, 64), (28, 28), (9, 7))
"""Landscape, portrait, large, flat, just right, and smaller than any crop; with odd sides."""


def picture(height, width, seed=0):
    """Return noise on a slope, so that every pixel tells and neighbours are related."""
    noise = np.random.default_rng(seed).integers(0, 80, (height, width, 3))
    slope = np.add.outer(np.arange(height), np.arange(width))[:, :, None] * np.array([1, 2, 3]) % 176
    return (noise + slope).astype(np.uint8)


def published(name):
    """Return one of transformers' processor classes that need no torchvision."""
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
    from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

    return {
        "bit": BitImageProcessorPil,
        "clip": CLIPImageProcessorPil,
        "deit": DeiTImageProcessorPil,
        "siglip": SiglipImageProcessorPil,
        "videomae": VideoMAEImageProcessorPil,
        "vit": ViTImageProcessorPil,
        "vivit": VivitImageProcessor,
    }[name]


TYPES = {
    "bit": "dinov2",
    "clip": "clip",
    "deit": "vit",
    "siglip": "siglip",
    "videomae": "timesformer",
    "vit": "vit",
    "vivit": "vivit",
}


def of_processor(processor, family):
    settings = json.loads(processor.to_json_string())
    return Pictures.of(settings, TYPES[family], "preprocessor_config.json")


def assert_as_published(processor, ours, one):
    processor.do_rescale, processor.do_normalize = False, False
    if hasattr(processor, "offset"):
        processor.offset = False
    pixels = np.array(processor([one])["pixel_values"]).reshape(3, *ours.shape)
    np.testing.assert_array_equal(ours.fit(one).transpose(2, 0, 1), pixels)


def assert_normalised_as_published(processor, ours, one):
    values = np.array(processor([one])["pixel_values"]).reshape(3, *ours.shape)
    got = ours.normalise(torch.tensor(ours.fit(one)))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), values, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("family", TYPES)
def test_pixels_and_values_are_those_of_the_published_processor_with_its_defaults(family):
    processor = published(family)()
    ours = of_processor(processor, family)
    for one in map(picture, *zip((300, 417), (101, 57), (600, 338), strict=True)):
        assert_normalised_as_published(processor, ours, one)
        assert_as_published(published(family)(), ours, one)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("resample", range(6))
def test_any_picture_is_resized_and_cropped_as_published(size, resample):
    for family, sides in (
        ("videomae", {"size": {"shortest_edge": 31}, "crop_size": {"height": 28, "width": 27}}),
        ("clip", {"size": 20, "crop_size": 25}),  # smaller than its crop
        ("vit", {"size": {"height": 24, "width": 33}}),
        ("vit", {"size": 26}),
        ("bit", {"do_resize": False, "crop_size": 28}),
        ("vivit", {"size": {"shortest_edge": 23}, "crop_size": {"height": 30, "width": 20}}),
    ):
        processor = published(family)(**sides, resample=resample)
        assert_as_published(processor, of_processor(processor, family), picture(*size))


@pytest.mark.parametrize("family", ["videomae", "vivit"])
@pytest.mark.parametrize("left_out", ["do_rescale", "do_normalize", "offset"])
def test_steps_that_are_switched_off_are_left_out(family, left_out):
    off = {left_out: False} | ({"offset": False} if family == "vivit" else {})
    processor = published(family)(**off, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 2.0])
    assert_normalised_as_published(processor, of_processor(processor, family), picture(90, 130))


def test_defaults_are_those_of_the_installed_processors():
    for family in TYPES:
        processor = published(family)()
        for name, value in PROCESSORS[family].items():
            theirs = getattr(processor, name, None)
            if name in ("size", "crop_size") and theirs is not None:
                wanted = (
                    Pictures.of({}, TYPES[family], "")
                    if family != "deit"
                    else of_processor(processor, family)
                )
                assert wanted == of_processor(processor, family)
            elif name.startswith("image_"):
                assert tuple(theirs) == value
            elif name == "default_to_square":
                continue  # seen in the sizes above
            else:
                assert bool(theirs) == value if isinstance(value, bool) else theirs == value, (family, name)


def test_defaults_of_video_processors_that_need_torchvision_are_those_of_their_source():
    """They cannot be made here; their class attributes can be read."""
    from transformers.models.timesformer.video_processing_timesformer import TimesformerVideoProcessor
    from transformers.models.videomae.video_processing_videomae import VideoMAEVideoProcessor
    from transformers.models.vivit.video_processing_vivit import VivitVideoProcessor
    from transformers.models.vjepa2.video_processing_vjepa2 import VJEPA2VideoProcessor

    for cls in (TimesformerVideoProcessor, VideoMAEVideoProcessor, VivitVideoProcessor, VJEPA2VideoProcessor):
        named = {"video_processor_type": cls.__name__}
        spelled = {
            name: getattr(cls, name)
            for name in ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor")
            if hasattr(cls, name)
        }
        assert Pictures.of(named, "videomae", "") == Pictures.of(named | spelled, "videomae", "")


VJEPA2 = {
    "crop_size": {"height": 256, "width": 256},
    "data_format": "channels_first",
    "default_to_square": True,
    "device": None,
    "do_center_crop": True,
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_pad": None,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "input_data_format": None,
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 292},
    "size_divisor": None,
    "video_processor_type": "VJEPA2VideoProcessor",
}
"""As published with the checkpoints."""


def by_torch(one, short, crop):
    """Do what transformers' torchvision backend does to uint8: resize with antialias, cut the middle, normalise."""
    height, width = one.shape[:2]
    longer = int(short * max(height, width) / min(height, width))
    size = (short, longer) if height < width else (longer, short)
    tensor = torch.from_numpy(one).permute(2, 0, 1)[None]
    if size != (height, width):
        tensor = torch.nn.functional.interpolate(
            tensor, size, mode="bilinear", align_corners=False, antialias=True
        )
    top, left = int((size[0] - crop) / 2.0), int((size[1] - crop) / 2.0)
    pixels = tensor[0, :, top : top + crop, left : left + crop]
    mean, std = (torch.tensor(VJEPA2[name])[:, None, None] * 255 for name in ("image_mean", "image_std"))
    return pixels, (pixels.float() - mean) / std


@pytest.mark.parametrize("size", [(360, 641), (641, 360), (129, 97), (292, 292), (300, 293)], ids=str)
def test_vjepa2_is_within_one_level_of_what_torchvision_does(size):
    ours = Pictures.of(VJEPA2, "vjepa2", "")
    assert (ours.shape, ours.resize) == ((256, 256), 292)
    pixels, values = by_torch(picture(*size), 292, 256)
    got = ours.fit(picture(*size))
    apart = np.abs(got.transpose(2, 0, 1).astype(int) - pixels.numpy())
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.05  # rounding, not a shift
    level = 1 / 255 / min(VJEPA2["image_std"])
    assert (ours.normalise(torch.from_numpy(got)) - values).abs().max() <= 1.01 * level


def test_vjepa2_gives_the_stored_values():
    """Reckoned once with `by_torch` (torch 2.13); a level of 255 is 0.0175."""
    ours = Pictures.of(VJEPA2, "vjepa2", "")
    got = ours.normalise(torch.tensor(ours.fit(picture(360, 641))))
    places = [(0, 0, 0), (1, 0, 255), (2, 255, 0), (0, 255, 255), (1, 128, 127), (2, 17, 200)]
    stored = [-1.587, 0.8704, 0.6705, 0.7591, 0.1176, 1.0539]
    np.testing.assert_allclose([float(got[place]) for place in places], stored, atol=0.018)


def test_the_size_of_vjepa2_follows_its_crop_as_its_class_has_it():
    ours = Pictures.of({"crop_size": 384, "size": {"shortest_edge": 300}}, "vjepa2", "")
    assert (ours.shape, ours.resize) == ((384, 384), 438)


def test_dinov3_is_within_one_level_of_resizing_what_is_rescaled_already():
    ours = Pictures.of({"image_processor_type": "DINOv3ViTImageProcessorFast"}, "dinov3_vit", "")
    one = picture(301, 411)
    rescaled = torch.from_numpy(one).permute(2, 0, 1)[None] * (1 / 255)
    wanted = torch.nn.functional.interpolate(
        rescaled, (224, 224), mode="bilinear", align_corners=False, antialias=True
    )[0]
    got = torch.tensor(ours.fit(one)).permute(2, 0, 1) / 255
    assert (got - wanted).abs().max() <= 1 / 255


@pytest.mark.parametrize(
    ("settings", "same", "resize"),
    [
        ({"image_processor_type": "ViViTImageProcessor", "size": {"shortest_edge": 224}}, "vivit", 224),
        ({"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 224, "size": 224}, "clip", 224),
        (
            {"image_processor_type": "SiglipImageProcessorFast", "size": {"height": 384, "width": 384}},
            "siglip",
            (384, 384),
        ),
        ({"image_processor_type": "VivitImageProcessor", "do_zero_centering": True}, "vivit", 256),
        (
            {"image_processor_type": "ViTImageProcessor", "do_pad": False, "do_thumbnail": None},
            "vit",
            (224, 224),
        ),
    ],
    ids=str,
)
def test_published_ways_to_write_it_are_understood(settings, same, resize):
    ours = Pictures.of(settings, "dinov2", "")
    assert ours.mean == PROCESSORS[same]["image_mean"]
    assert ours.resize == resize
    assert ours.offset == (1.0 if same == "vivit" else 0.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_pad": True, "pad_size": {"height": 500, "width": 500}}, "do_pad is a step"),
        ({"do_thumbnail": True}, "do_thumbnail is a step"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "prepared by ConvNextImageProcessor"),
        ({"size": {"longest_edge": 224}}, "size {'longest_edge': 224}"),
        ({"size": {"shortest_edge": 224}}, "different sizes"),
        ({"do_resize": False}, "different sizes"),
        ({"do_center_crop": True}, "size None"),
        ({"resample": 9}, "resample 9"),
        ({"image_mean": [0.5, 0.5]}, "2 means"),
        ({"image_std": "half"}, "4 means"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused_with_the_file_named(settings, said):
    with pytest.raises(MixedSignalsError, match=r"^some/preprocessor_config.json: ") as refused:
        Pictures.of(settings, "vit", "some/preprocessor_config.json")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


class Folder:
    """What `pictures_of` asks of a checkpoint."""

    def __init__(self, folder):
        self.folder = folder

    def json(self, name):
        path = self.folder / name
        return json.loads(path.read_text()) if path.is_file() else {}


def test_the_settings_are_looked_for_where_transformers_looks(tmp_path):
    with pytest.raises(MixedSignalsError, match=r"has no preprocessor_config.json: copy it"):
        pictures_of(Folder(tmp_path), "clip")
    nested = {"processor_class": "CLIPProcessor", "image_processor": {"crop_size": 30}}
    for number, (name, content) in enumerate(
        [
            ("preprocessor_config.json", {"crop_size": 10}),
            ("video_preprocessor_config.json", {"crop_size": 20}),
            ("processor_config.json", nested),
        ],
        start=1,
    ):
        (tmp_path / name).write_text(json.dumps(content))
        assert pictures_of(Folder(tmp_path), "clip").shape == (10 * number, 10 * number)
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert pictures_of(Folder(tmp_path), "clip").shape == (20, 20)


def test_preparing_is_said_in_full_as_json():
    said = Pictures.of(VJEPA2, "vjepa2", "").said
    assert json.loads(json.dumps(said)) == said
    assert (said["shape"], said["resize"], said["resample"]) == ([256, 256], 292, "bilinear")


def test_looking_at_pictures_needs_no_torch():
    """Worker processes that decode never import it."""
    import subprocess
    import sys

    program = (
        "import sys, numpy as np\n"
        f"from {pictures_module.__name__} import Pictures\n"
        f"from {windows_module.__name__} import WindowReader\n"
        "reader = WindowReader(Pictures.of({}, 'clip', ''), 2, 1.0)\n"
        "picture = np.zeros((50, 40, 3), np.uint8)\n"
        "reader.read([reader.look(picture) for _ in reader.times(0, 2)])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'too much is imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
