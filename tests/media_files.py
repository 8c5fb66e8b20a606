"""Small media files made with PyAV, and viewers that look at them."""

import av
import numpy as np

RATE, FPS, SECONDS = 48_000, 20, 3


def write_film(path, *, sound=True, picture=True, channels=1, seconds=SECONDS, loudness=0.5):
    """Frame k is a flat grey of level 4 k; the sound is a ramp in each channel, from 0 to `loudness`."""
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("png", rate=FPS)
            video.width, video.height, video.pix_fmt = 66, 50, "rgb24"  # a width that decoders pad
        if sound:
            audio = container.add_stream("pcm_f32le", rate=RATE, layout="stereo" if channels == 2 else "mono")
        if picture:
            for k in range(FPS * seconds):
                grey = np.full((50, 66, 3), 4 * k, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(video.encode(None))
        if sound:
            ramp = np.linspace(0, loudness, RATE * seconds, dtype=np.float32)
            signal = np.stack([ramp, np.zeros_like(ramp)][:channels], axis=1)
            for start in range(0, len(signal), 4096):
                piece = np.ascontiguousarray(signal[start : start + 4096].reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(
                    piece, format="flt", layout="stereo" if channels == 2 else "mono"
                )
                frame.sample_rate, frame.pts = RATE, start
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def level(k):
    """A grey that tells a frame from its neighbours whatever the codec rounds: they differ by 60 or more."""
    return 20 + 70 * k % 210


def write(path, *streams, **options):
    """Write a media file of streams that `pictures` and `sound` describe."""
    with av.open(str(path), "w", **options) as container:
        for write_packets in [add(container) for add in streams]:
            write_packets()
    return path


def pictures(n, codec="libx264", *, gop=64, b_frames=0, matrix=None, picture=None):
    """A film at 25 frames a second, of which frame k is a flat grey of level `level(k)`, or is `picture`."""

    def add(container):
        video = container.add_stream(codec, rate=25, width=64, height=64, pix_fmt="yuv420p")
        video.codec_context.gop_size = gop
        if codec == "libx264":
            video.options = {"crf": "1", "sc_threshold": "0", "x264-params": f"bframes={b_frames}:b-adapt=0"}
        elif codec.startswith("mpeg"):
            video.codec_context.max_b_frames = b_frames
            video.options = {"qmin": "1", "qmax": "2"}
        if matrix is not None:
            a, b, c, d = (65536 * value for value in matrix)
            video.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])

        def write_packets():
            for k in range(n):
                shown = np.full((64, 64, 3), level(k), np.uint8) if picture is None else picture
                container.mux(video.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            container.mux(video.encode(None))

        return write_packets

    return add


def sound(samples, codec="pcm_s16le", *, rate=RATE, keep=lambda seconds: True):
    """A track of mono float samples; packets at times that are not kept are lost."""

    def add(container):
        audio = container.add_stream(codec, rate=rate, layout="mono")

        def write_packets():
            for start in range(0, len(samples), 960):
                piece = np.ascontiguousarray(samples[None, start : start + 960], np.float32)
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = rate, start
                packets = audio.encode(frame)
                container.mux([packet for packet in packets if keep(float(packet.pts * packet.time_base))])
            container.mux(audio.encode(None))

        return write_packets

    return add


def rising_tone(seconds, rate=RATE):
    """A tone whose loudness tells the time: it rises evenly."""
    time = np.arange(int(rate * seconds)) / rate
    return (0.9 * time / seconds * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


class Steady:
    """Looks so many times a second, and keeps a value in the middle of each picture, or what `keep` says."""

    def __init__(self, rate, keep=lambda picture: int(picture[len(picture) // 2, picture.shape[1] // 2, 0])):
        self.rate, self.keep = rate, keep

    def times(self, start, stop):
        self.span = start, stop
        return start + np.arange(max(0, np.ceil((stop - start - 1e-3) * self.rate))) / self.rate

    def look(self, picture):
        return self.keep(picture)


def frames(clip, rate, keep=lambda picture: picture):
    """Return the pictures of a clip at so many a second; raise what the viewer raised."""
    (looks,) = clip.look([Steady(rate, keep)])
    if isinstance(looks, Exception):
        raise looks
    return looks
