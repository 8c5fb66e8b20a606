"""Opening a recording with PyAV, reading it by time stamp, and telling whether every browser plays it.

Times are seconds from the start of the file (the earliest of its streams). Only formats that hold sound or pictures
themselves are read: no playlists, which name other files, and no text, which FFmpeg would draw.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.stream import Disposition

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded: twice those of 8K."""

_FORMATS = (
    "mov,matroska,avi,mpeg,mpegts,asf,flv,ogg,rm,mxf,nut,ivf,wtv,wav,w64,aiff,au,caf,flac,wv,tta,ape,tak,mpc,mpc8,"
    "dsf,voc,nistsphere,mp3,aac,ac3,eac3,dts,truehd,amr,amrnb,amrwb,gsm,loas,h264,hevc,m4v,mpegvideo,h261,h263,mjpeg,"
    "obu,dv"
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_SEEK_MARGIN = 1.0  # seconds before the start at which decoding begins, so that decoders have settled

_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_WEBM = "matroska,webm"
# Format -> codecs of pictures and of sound, and the media types of films and of sound alone.
_PLAYED = {
    _MP4: ({"h264"}, {"aac", "mp3"}, "video/mp4", "audio/mp4"),
    _WEBM: ({"vp8", "vp9", "av1"}, {"opus", "vorbis"}, "video/webm", "audio/webm"),
    "ogg": (set[str](), {"opus", "vorbis"}, "", "audio/ogg"),
    "wav": (set[str](), {"pcm_s16le", "pcm_u8", "pcm_f32le"}, "", "audio/wav"),
    "mp3": (set[str](), {"mp3"}, "", "audio/mpeg"),
    "flac": (set[str](), {"flac"}, "", "audio/flac"),
}
_PLAYED_PIXELS = {"yuv420p", "yuvj420p"}
_PLAYED_RATES = range(8_000, 96_001)


class Unreadable(Exception):  # noqa: N818 - a state of a recording rather than a fault
    """The recording cannot be read; the message says why, to stand in brackets."""


class Medium(NamedTuple):
    """What a recording is.

    Attributes
    ----------
    kind : str
        ``"video"`` or ``"audio"``.
    type : str
        The media type by which Chromium, Firefox and Safari all play it; empty where one of them does not.
    """

    kind: str
    type: str


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a recording, and turn every error of decoding inside the block into `Unreadable`."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "fd", "max_pixels": str(MOST_PIXELS)}
    try:
        with (
            path.open("rb") as file,  # given without its name, so that its extension says nothing
            av.open(
                "fd:", options={"fd": str(file.fileno())} | options, metadata_errors="replace"
            ) as container,
        ):
            yield container
    except (av.FFmpegError, OSError) as error:
        if error.errno in _FULL:  # of what is written inside the block
            raise
        raise Unreadable(error.strerror or str(error)) from error
    except OverflowError as error:
        raise Unreadable("its time stamps are out of range") from error
    except MemoryError as error:
        raise Unreadable("it takes more memory than there is") from error


def film_of(container: Any) -> Any:
    """Return the first video stream that is not a cover picture, or None."""
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return films[0] if films else None


def sound_of(container: Any) -> Any:
    """Return the first audio stream, or None."""
    return next(iter(container.streams.audio), None)


def probe(path: Path) -> Medium:
    """Tell what a recording is by its container and codecs.

    Raises
    ------
    Unreadable
        If it is no recording, or holds neither sound nor pictures.
    """
    with opened(path) as container:
        film, sound = film_of(container), sound_of(container)
        if film is None and sound is None:
            raise Unreadable("it holds neither sound nor pictures")
        kind = "audio" if film is None else "video"
        return Medium(kind, _played_as(path, container.format.name, film, sound))


def _played_as(path: Path, name: str, film: Any, sound: Any) -> str:
    """Return the media type by which browsers play these streams, or "" where one of them does not."""
    if name not in _PLAYED or (name == _WEBM and not _says_webm(path)):
        return ""
    films, sounds, film_type, sound_type = _PLAYED[name]
    if sound is not None:
        codec = sound.codec_context
        if (
            codec is None
            or codec.codec.canonical_name not in sounds
            or codec.sample_rate not in _PLAYED_RATES
        ):
            return ""
    if film is None:
        return sound_type
    codec = film.codec_context
    if codec is None or codec.codec.canonical_name not in films or codec.pix_fmt not in _PLAYED_PIXELS:
        return ""
    return film_type


def _says_webm(path: Path) -> bool:
    """Return whether a Matroska file calls itself WebM, which is all of Matroska that browsers read."""
    with path.open("rb") as file:
        return b"webm" in file.read(64)


def decoded(container: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) from some frame at or before `start` on; frames without a time stamp are left out."""
    codec = stream.codec_context
    if codec is None:
        raise Unreadable(f"there is no decoder for its {stream.type}")
    codec.thread_count = 1  # clips are cut side by side
    if stream.type == "video":
        codec.options = {"max_pixels": str(MOST_PIXELS)}
    origin = Fraction(container.start_time or 0, 1_000_000)

    def frames() -> Iterator[tuple[float, Any]]:
        for stamp, frame in _stamped(container, stream):
            if stamp is not None:
                yield float(stamp * stream.time_base - origin), frame

    if start <= _SEEK_MARGIN or container.format.name == "mpeg":  # MPEG program streams break when sought in
        yield from frames()
        return
    place = int((Fraction(start - _SEEK_MARGIN) + origin) / stream.time_base)
    container.seek(place, stream=stream, backward=True)
    first = next(frames(), None)
    if first is None or first[0] > start:  # some containers (MPEG-TS) seek past what was asked for
        container.seek(0)
        yield from frames()
        return
    yield first
    yield from frames()


def _stamped(container: Any, stream: Any) -> Iterator[tuple[int | None, Any]]:
    """Yield (time stamp, frame)."""
    packets = container.demux(stream)
    if stream.type != "video" or container.format.name != "avi":
        yield from ((frame.pts, frame) for packet in packets for frame in packet.decode())
        return
    due = -1  # in AVI, pictures have no time of showing: one comes out for each that goes in, after a delay
    for packet in packets:
        for frame in packet.decode():
            due = due + 1 if frame.dts is None else frame.dts - stream.codec_context.reorder_depth
            yield due, frame
