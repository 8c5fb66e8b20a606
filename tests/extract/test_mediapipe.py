"""Faces in real pictures, with real weights. Without a network and a cache, those tests skip."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from outside_data import outside_data

from mixed_signals.extract.encoders.mediapipe import (
    BLENDSHAPES,
    SIGNALS,
    Blendshapes,
    functionals,
    pose,
)
from mixed_signals.extract.media import Absent
from mixed_signals.store import MixedSignalsError, UsageError


@pytest.fixture(scope="module")
def reader():
    """Return a loaded reader, after its way to a worker process."""
    encoder = Blendshapes()
    try:
        encoder.prepare()
    except MixedSignalsError as error:
        if "SHA-256" in str(error):  # a wrong hash is a failure wherever it happens
            raise
        pytest.skip(f"weights or system libraries are not to be had here: {error}")
    made = pickle.loads(pickle.dumps(encoder.reader))
    made.load()
    yield made
    made.close()


@pytest.fixture(scope="module")
def portrait():
    """Return a smiling woman's head in the middle of the picture, RGB (250, 250, 3)."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[:250, 100:350])


def pictures(media, every=5, most=15):
    """Return some pictures of a video file."""
    import av

    with av.open(str(media)) as container:
        found = [frame for i, frame in enumerate(container.decode(video=0)) if i % every == 0][:most]
        return [frame.to_ndarray(format="rgb24") for frame in found]


def scaled(picture, size):
    import av

    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return frame.reformat(width=size, height=size).to_ndarray(format="rgb24")


def named(signals):
    return dict(zip(SIGNALS, signals, strict=True))


def test_a_known_portrait_smiles_at_the_camera(reader, portrait):
    signals = named(reader.look(portrait))
    assert min(signals["mouthSmileLeft"], signals["mouthSmileRight"]) > 0.7
    assert max(signals["jawOpen"], signals["eyeBlinkLeft"], signals["eyeBlinkRight"]) < 0.1
    assert max(abs(signals["head_yaw"]), abs(signals["head_pitch"]), abs(signals["head_roll"])) < 15
    assert abs(signals["head_x"]) < 2
    assert -60 < signals["head_z"] < -20


def test_a_turned_picture_turns_the_head(reader, portrait):
    from scipy.ndimage import rotate

    roll = named(reader.look(portrait))["head_roll"]
    for degrees in (-20, 20):  # anticlockwise, as seen
        turned = rotate(portrait, degrees, reshape=False, mode="nearest")
        assert named(reader.look(turned))["head_roll"] == pytest.approx(roll + degrees, abs=3)


def test_a_view_is_the_picture_that_it_shows(reader, portrait):
    mirrored = portrait[:, ::-1]
    np.testing.assert_array_equal(reader.look(mirrored), reader.look(mirrored.copy()))


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_two_faces_the_larger_is_taken(reader, portrait, side):
    small = scaled(portrait, 220)  # of these two, the landmarker's first is the smaller
    picture = np.zeros((250, 500, 3), np.uint8)
    large, other = (0, 250) if side == "left" else (250, 0)
    picture[:, large : large + 250] = portrait
    alone = reader.look(picture)
    picture[:220, other : other + 220] = small
    found = reader.look(picture)
    assert np.sign(named(found)["head_x"]) == (-1 if side == "left" else 1)
    np.testing.assert_allclose(found[:52], alone[:52], atol=0.05)
    np.testing.assert_allclose(found[52:], alone[52:], atol=1)
    picture[:, large : large + 250] = 0
    assert np.sign(named(reader.look(picture))["head_x"]) == -np.sign(named(found)["head_x"])


def test_speech_opens_the_mouth(reader):
    looks = [reader.look(picture) for picture in pictures(outside_data("grid") / "bbaf2n.mpg")]
    (vector,) = reader.read(looks)
    assert vector.dtype == np.float32
    values = dict(zip(Blendshapes().outputs[0].dimensions, vector, strict=True))
    assert values["face_share"] == 1
    assert values["jawOpen.max"] > 0.2 > min(look[BLENDSHAPES.index("jawOpen")] for look in looks)
    assert values["jawOpen.max"] > values["jawOpen.mean"] > 0
    assert abs(values["head_yaw.mean"]) < 20


def test_no_face_is_absent_not_zeros(reader):
    looks = [reader.look(picture) for picture in pictures(outside_data("clips") / "no_face.mp4", most=4)]
    assert looks == [None] * 4
    with pytest.raises(Absent, match=r"^no face in 4 frames$"):
        reader.read(looks)
    with pytest.raises(Absent, match=r"^no face in 1 frame$"):
        reader.read(looks[:1])


def test_a_picture_does_not_depend_on_what_came_before(reader, portrait):
    first = reader.look(portrait)
    reader.look(scaled(portrait, 120))
    reader.look(np.zeros((1, 1, 3), np.uint8))
    np.testing.assert_array_equal(reader.look(portrait), first)


def test_starting_working_and_ending_say_nothing_yet_errors_are_heard(
    reader,
):  # `reader`: skips without weights
    program = (
        "import os, numpy\n"
        "from mixed_signals.extract.encoders.mediapipe import FaceReader\n"
        "reader = FaceReader(10)\n"
        "reader.load()\n"
        "os.write(2, b'heard')\n"
        "assert reader.look(numpy.zeros((64, 64, 3), numpy.uint8)) is None\n"
        "reader.close()\n"
        "os.write(2, b', and after')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == "heard, and after"


def test_the_names_are_mediapipes_in_its_order():
    from mediapipe.tasks.python.vision.face_landmarker import Blendshapes as Theirs

    ours = ["".join(f"_{c}" if c.isupper() else c for c in name).strip("_").upper() for name in BLENDSHAPES]
    assert ours == [shape.name for shape in sorted(Theirs)]
    assert len(SIGNALS) == 58


def test_an_output_names_its_dimensions_and_says_how_faces_are_chosen():
    (output,) = Blendshapes(25).outputs
    assert len(output.dimensions) == len(set(output.dimensions)) == 233
    assert output.dimensions[:5] == (
        *(f"_neutral.{functional}" for functional in ("mean", "std", "max", "speed")),
        "browDownLeft.mean",
    )
    assert output.dimensions[-1] == "face_share"
    assert output.recipe.preprocessing == {
        "frames_per_second": 25.0,
        "mode": "image",
        "faces": "largest of 5",
    }
    prints = [Blendshapes(rate).outputs[0].recipe.fingerprint for rate in (10, 10.0, 25)]
    assert prints[0] == prints[1] == Blendshapes().outputs[0].recipe.fingerprint != prints[2]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_frame_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError, match=f"--frame-rate {rate:g}: use"):
        Blendshapes(rate)


def test_times_are_steady_from_the_start_and_at_least_one():
    times = Blendshapes(10).reader.times
    np.testing.assert_allclose(times(1.25, 1.6), [1.25, 1.35, 1.45, 1.55])
    np.testing.assert_allclose(times(0, 0.3), [0, 0.1, 0.2])
    np.testing.assert_allclose(times(0, 0.3004), [0, 0.1, 0.2])  # an end that was rounded up
    np.testing.assert_allclose(times(2, 2.0005), [2])
    assert len(times(0, 60)) == 600
    np.testing.assert_allclose(Blendshapes(2.5).reader.times(0, 1), [0, 0.4, 0.8])


def test_functionals_leave_out_frames_without_a_face():
    rows = [np.array([0.0, 1.0]), np.array([1.0, 1.0]), None, np.array([5.0, 1.0])]
    found = functionals(rows, 10)
    values = [0.0, 1.0, 5.0]
    # The jump over the gap is no speed.
    np.testing.assert_allclose(found[:4], [2, np.std(values), 5, 10], rtol=1e-6)
    np.testing.assert_allclose(found[4:8], [1, 0, 1, 0])
    assert found[8] == 0.75


def test_speed_is_per_second_at_any_frame_rate():
    for rate in (5, 10, 25):
        rows = [np.array([2.0 * step / rate]) for step in range(rate)]  # a rise by 2 a second
        assert functionals(rows, rate)[3] == pytest.approx(2)


def test_pose_reads_the_rotation_that_was_put_in():
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = 1.7 * Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
    matrix[:3, 3] = [1, 2, -30]
    np.testing.assert_allclose(pose(matrix), [10, -25, 40, 1, 2, -30], atol=1e-9)
