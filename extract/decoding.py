"""Opening a media file with PyAV and reading what is in it by time stamp, within what a damaged file may cost.

Times are seconds from the start of the file (the earliest of its streams). Only formats that hold sound or pictures
themselves are read: no playlists, which name other files, and no text, which FFmpeg would draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from mixed_signals.store import remote

LONGEST_GAP = 300.0
"""Seconds between two time stamps of an utterance from which on they are held to be wrong."""

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded: twice those of 8K."""

_BARE = "mp3,aac,ac3,eac3,dts,truehd,amr,amrnb,amrwb,gsm,loas,h264,hevc,m4v,mpegvideo,h261,h263,mjpeg,obu,dv"
"""Formats without a header that tells the length, which FFmpeg then guesses from the bit rate."""

_FORMATS = (
    "mov,matroska,avi,mpeg,mpegts,asf,flv,ogg,rm,mxf,nut,ivf,wtv,wav,w64,aiff,au,caf,flac,wv,tta,ape,tak,mpc,mpc8,"
    "dsf,voc,nistsphere,gif,png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,webp_pipe,webp," + _BARE
)
_SEEK_MARGIN = 1.0  # seconds before the start at which decoding begins, so that decoders have settled


class Absent(Exception):  # noqa: N818 - a state of an utterance rather than a fault
    """The utterance has no such modality (no media, no audio track, silence, no face, no words)."""


class Unreadable(Exception):  # noqa: N818
    """The utterance's media is there but cannot be decoded."""


@contextmanager
def opened(media: Path | str | None) -> Iterator[Any]:
    """Open a file, or a URL, and turn every decoding error inside the block into `Unreadable`."""
    import av

    if media is None:
        raise Absent("no media")
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "fd", "max_pixels": str(MOST_PIXELS)}
    try:
        with (
            _read_from(media) as (source, how),
            av.open(source, options=how | options, metadata_errors="replace") as container,
        ):
            if not (container.streams.audio or container.streams.video):
                raise Unreadable("it holds neither sound nor pictures")
            yield container
    except av.FFmpegError as error:
        raise Unreadable(f"not readable as media ({error.strerror or error})") from error
    except OSError as error:
        raise Unreadable(f"the file cannot be read ({error.strerror})") from error
    except OverflowError as error:
        raise Unreadable("its time stamps are out of range") from error
    except MemoryError as error:
        raise Unreadable("it takes more memory than there is") from error


@contextmanager
def _read_from(media: Path | str) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a file or a URL without its name, so that its extension says nothing; yield what PyAV takes, and how."""
    if isinstance(media, str):
        try:
            with remote.reading(media) as file:
                _require_content(file.size)
                yield file, {}
        except remote.Unreachable as error:
            raise Unreadable(str(error)) from None
        return
    if not media.is_file():
        raise Unreadable("is not a file" if media.exists() else "the file does not exist")
    _require_content(media.stat().st_size)
    with media.open("rb") as file:
        yield "fd:", {"fd": str(file.fileno())}


def _require_content(size: int) -> None:
    if not size:
        raise Unreadable("the file is empty")


def decoded(container: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) from some frame at or before `start` on; frames without a time stamp are left out."""
    codec = stream.codec_context
    if codec is None:
        raise Unreadable(f"there is no decoder for its {stream.type}")
    codec.thread_count = 1  # utterances are decoded side by side
    if stream.type == "video":
        codec.options = {"max_pixels": str(MOST_PIXELS)}
    origin = float(_origin(container))

    def frames() -> Iterator[tuple[float, Any]]:
        for time, frame in _stamped(container, stream):
            if time is not None:
                yield time - origin, frame

    if start <= _SEEK_MARGIN or container.format.name == "mpeg":  # MPEG program streams break when sought in
        yield from frames()
        return
    container.seek(int((start - _SEEK_MARGIN + origin) / stream.time_base), stream=stream, backward=True)
    first = next(frames(), None)
    if first is None or first[0] > start:  # some containers (MPEG-TS) seek past what was asked for
        container.seek(0)
        yield from frames()
        return
    yield first
    yield from frames()


def first_stamp(container: Any, stream: Any) -> float:
    """Return when the stream begins, as the file tells it."""
    if stream.start_time is None:
        return 0.0
    return float(stream.start_time * stream.time_base - _origin(container))


def told_end(container: Any, stream: Any | None = None) -> float | None:
    """Return when the file, or a stream of it, ends as its header tells; None where that is only a guess."""
    if container.format.name in _BARE.split(","):
        return None
    if stream is not None and stream.duration is not None:
        return first_stamp(container, stream) + float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1_000_000


def packet_ends(container: Any) -> dict[int, float]:
    """Return when each stream ends by its packets, by stream index; nothing is decoded.

    Raises
    ------
    Unreadable
        If the file holds less than half of what its header tells.
    """
    ends: dict[int, Fraction] = {}
    for packet in _packets(container):
        stamp = packet.dts if packet.pts is None or _shown_when_due(packet.stream) else packet.pts
        if stamp is None or not packet.time_base:
            continue
        end = Fraction((stamp + (packet.duration or 0)) * packet.time_base) - _origin(container)
        ends[packet.stream.index] = max(end, ends.get(packet.stream.index, end))
    told = told_end(container)
    reached = float(max(ends.values(), default=Fraction(0)))
    if told is not None and reached < 0.5 * told:
        raise Unreadable(f"the file breaks off at {max(reached, 0):.2g} s of {told:.2g} s")
    return {stream: float(end) for stream, end in ends.items()}


def require_half(seconds: float, wanted: float, what: str, start: float, end: float | None) -> None:
    """Refuse a cut of which less than half is in the file."""
    where = f"between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
    if seconds <= 0:
        raise Unreadable(f"no {what} {where}")
    if seconds < 0.5 * wanted:
        raise Unreadable(f"only {seconds:.2g} s of {what} {where}")


def _origin(container: Any) -> Fraction:
    """Return the time stamp, in seconds, that counts as the file's beginning."""
    return Fraction(container.start_time or 0, 1_000_000)


def _packets(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield the packets of some streams, or of all, and at the end one for each that flushes its decoder."""
    try:
        yield from container.demux(*streams)
    except IndexError:  # PyAV flushes streams that began midway, which it does not know, after those it does
        return


def _stamped(container: Any, stream: Any) -> Iterator[tuple[float | None, Any]]:
    """Yield (time stamp in seconds, frame)."""
    frames = (frame for packet in _packets(container, stream) for frame in packet.decode())
    if not _shown_when_due(stream):
        yield from ((frame.time, frame) for frame in frames)
        return
    due = -1
    for frame in frames:
        due = due + 1 if frame.dts is None else frame.dts - stream.codec_context.reorder_depth
        yield float(due * stream.time_base), frame


def _shown_when_due(stream: Any) -> bool:
    """Return whether pictures have no time of showing: in AVI one comes out for each that goes in, after a delay."""
    return stream.type == "video" and stream.container.format.name == "avi"
