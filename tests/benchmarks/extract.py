"""The extraction job beside the usual ways to embed: text, speech, the overlap of its stages, the use of a GPU.

    python tests/benchmarks/extract.py [--small] [--json FILE]

Text: short transcripts through MiniLM (real weights), beside ``transformers.pipeline("feature-extraction")`` at its
default and with 32 at once, and beside sentence-transformers; same model, same texts, and the vectors are first checked
to be the same. Speech: Whisper's encoder (real weights) and a network of HuBERT-base's shape (made-up weights) beside a
loop that decodes and encodes one recording after the other. Overlap: the wall time of a whole job beside its longest
stage, each stage timed alone on the threads it has in the job. On a machine with a GPU: utterances a second, the share
of the matmul peak that was measured, and how long the GPU waited.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_rows import Rows, arguments_of, take_turns

from mixed_signals.extract import job, make_encoder, pipeline, weights
from mixed_signals.extract.encoders.base import Encoded, NetworkEncoder
from mixed_signals.extract.reading import reading
from mixed_signals.store import Corpus, Status, Store

RATE = 16_000
SAID = "I you that was really hard to hear but thank for telling me so much about what happened today"


@dataclass(frozen=True)
class Size:
    """How much is measured, and how often."""

    texts: int
    sounds: int
    repeats: int
    full: bool


FULL = Size(400, 32, 5, full=True)
SMALL = Size(64, 8, 2, full=False)


def sentences(n: int) -> list[str]:
    """Made-up transcripts of 3 to 40 words."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(3 + rng.gamma(1.5, 6, n), 40).astype(int)
    return [" ".join(rng.choice(SAID.split(), length)) for length in lengths]


def write_sounds(folder: Path, n: int) -> list[Path]:
    """Write made-up recordings of 1 to 6 seconds."""
    import soundfile

    rng = np.random.default_rng(1)
    paths = []
    for number in range(n):
        t = np.arange(int(rng.uniform(1, 6) * RATE)) / RATE
        voice = sum(np.sin(2 * np.pi * k * (110 + 40 * np.sin(t)) * t) / k for k in range(1, 12))
        path = folder / f"s{number:03d}.flac"
        soundfile.write(path, (0.1 * voice + 0.01 * rng.standard_normal(len(t))).astype(np.float32), RATE)
        paths.append(path)
    return paths


def embed(encoder: NetworkEncoder, texts: Sequence[str]) -> np.ndarray:
    """Return vectors of texts as the job makes them, without a store."""
    vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
    for batch in encoder.batches(np.array([len(text.encode()) for text in texts], dtype=float)):
        made = encoder.encode(encoder.pack(encoder.reader.read([texts[row] for row in batch])))
        for row, encoded in zip(batch, made, strict=True):
            (vectors[row],) = encoded.vectors
    return np.stack(vectors)


def text(rows: Rows, size: Size, device: str) -> None:
    import transformers
    from sentence_transformers import SentenceTransformer

    folder, texts = str(weights.fetch("minilm")), sentences(size.texts)
    encoder: Any = make_encoder("text", "minilm", device=device)
    encoder.load()
    encoder.reader.load()
    pipe = transformers.pipeline("feature-extraction", model=folder, tokenizer=folder, device=device)
    peer = SentenceTransformer(folder, device=device)

    def by_pipeline(**options: int) -> np.ndarray:
        pooled = [np.array(states[0]).mean(axis=0) for states in pipe(texts, **options)]
        return np.stack([vector / np.linalg.norm(vector) for vector in pooled])

    sides: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: embed(encoder, texts),
        "pipeline": by_pipeline,
        "sentence-transformers": lambda: peer.encode(texts, batch_size=32),
    }
    expected = sides["sentence-transformers"]()
    for name, side in sides.items():
        assert np.allclose(side(), expected, atol=2e-4), name
    # In a batch the pipeline hands out padding along with the rest: it is timed, and its vectors are not used.
    sides["pipeline, 32 at once"] = lambda: pipe(texts, batch_size=32)
    spent = take_turns(sides, size.repeats)
    name = f"{len(texts)} transcripts, MiniLM on {device}"
    ours = spent["ours"]
    rows.add(f"{name} / transformers.pipeline", ours, spent["pipeline"], at_least=2)
    rows.add(f"{name} / transformers.pipeline, 32 at once", ours, spent["pipeline, 32 at once"], at_least=2)
    rows.add(f"{name} / sentence-transformers", ours, spent["sentence-transformers"], at_least=1)


def hubert(folder: Path) -> str:
    """Save a network of HuBERT-base's shape with made-up weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return str(folder)


def videomae(folder: Path) -> str:
    """Save a network of VideoMAE-base's shape with made-up weights."""
    import torch
    import transformers
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

    torch.manual_seed(0)
    transformers.VideoMAEModel(transformers.VideoMAEConfig()).save_pretrained(folder)
    VideoMAEImageProcessorPil().save_pretrained(folder)
    return str(folder)


def store_of(folder: Path, paths: Sequence[Path]) -> Store:
    table = pd.DataFrame(
        {"utterance_id": [path.stem for path in paths], "media": [path.name for path in paths]}
    )
    return Store.create(folder, Corpus("made up", table, media_root=paths[0].parent))


def speech(rows: Rows, folder: Path, paths: list[Path], size: Size, device: str) -> None:
    for spec in ("whisper-tiny.en", hubert(folder / "hubert-base-shape")):
        encoder: Any = make_encoder("audio", spec, device=device)
        one_by_one = LOOPS[encoder.checkpoint.config["model_type"]](encoder, device)
        number = iter(range(10**6))
        made: dict[str, np.ndarray] = {}

        def ours(encoder: Any = encoder, number: Any = number, made: dict[str, np.ndarray] = made) -> None:
            store = store_of(folder / f"{encoder.name}-{next(number)}", paths)
            (outcome,) = pipeline.run(store, job.plan(store, [encoder]))
            made["ours"] = np.array(outcome.features.embedding)

        def loop(one: Callable[[Path], np.ndarray] = one_by_one, made: dict[str, np.ndarray] = made) -> None:
            made["peer"] = np.stack([one(path) for path in paths])

        spent = take_turns({"ours": ours, "loop": loop}, max(1, size.repeats // 2))
        assert np.allclose(made["ours"], made["peer"], atol=2e-3), encoder.name
        name = f"{len(paths)} recordings, {encoder.name} on {device}, store and all / one by one"
        rows.add(name, spent["ours"], spent["loop"])


def _hubert_loop(encoder: Any, device: str) -> Callable[[Path], np.ndarray]:
    import soundfile
    import torch
    import transformers

    folder = encoder.checkpoint.folder
    features = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval().to(device)

    def one(path: Path) -> np.ndarray:
        samples, rate = soundfile.read(path, dtype="float32")
        inputs = features(samples, sampling_rate=rate, return_tensors="pt").to(device)
        with torch.inference_mode():
            return model(**inputs).last_hidden_state[0].mean(dim=0).cpu().numpy()

    return one


def _whisper_loop(encoder: Any, device: str) -> Callable[[Path], np.ndarray]:
    import soundfile
    import torch
    import transformers

    folder = encoder.checkpoint.folder
    features = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    model = transformers.WhisperModel.from_pretrained(folder).get_encoder().eval().to(device)

    def one(path: Path) -> np.ndarray:
        samples, rate = soundfile.read(path, dtype="float32")
        mel = features(samples, sampling_rate=rate, return_tensors="pt").input_features.to(device)
        with torch.inference_mode():
            states = model(mel).last_hidden_state[0]
        return states[: -(-len(samples) // 320)].mean(dim=0).cpu().numpy()

    return one


LOOPS = {"hubert": _hubert_loop, "whisper": _whisper_loop}


class Waiting(NetworkEncoder):
    """An encoder whose network is replaced by a wait, as if another device did its work."""

    def __init__(self, encoder: Any, seconds: float) -> None:
        self.inner, self.seconds, self.reader, self.outputs = (
            encoder,
            seconds,
            encoder.reader,
            encoder.outputs,
        )

    def load(self) -> None:
        return

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        return self.inner.batches(lengths)

    def pack(self, inputs: Sequence[Any]) -> Any:
        return self.inner.pack(inputs)

    def encode(self, packed: Any) -> list[Encoded]:
        time.sleep(self.seconds)
        vector = np.zeros(len(self.outputs[0].dimensions), np.float32)
        return [Encoded(Status.OK, (vector,))] * packed.n


def overlap(rows: Rows, folder: Path, paths: list[Path], size: Size) -> None:
    """Time every stage alone, on one thread each, and then the whole job."""
    import torch

    torch.set_num_threads(1)
    encoder: Any = make_encoder("audio", str(folder / "hubert-base-shape"), device="cpu")
    encoder.load()
    store = store_of(folder / "overlap", paths)
    clips = job.clips_of(store, with_media=True)
    lengths = job.rough_lengths(store, "audio")

    def decode() -> list[Any]:
        with reading([encoder.reader], clips, range(len(clips)), workers=1) as decoded:
            return sorted(decoded, key=lambda one: one.row)

    decoding, read = timed(decode)
    inputs = [one.reads[0].value for one in read]
    batches = encoder.batches(lengths)
    packing, packed = timed(lambda: [encoder.pack([inputs[row] for row in batch]) for batch in batches])
    encoding, _ = timed(lambda: [encoder.encode(one) for one in packed])
    options = pipeline.Options(workers=1)

    def whole(encoder: Any, name: str) -> float:
        wall, outcomes = timed(lambda: pipeline.run(store, job.plan(store, [encoder], name=name), options))
        assert outcomes[0].features.ok.all()
        return wall

    walls = median(whole(encoder, f"n{number}") for number in range(max(1, size.repeats // 2)))
    longest = max(decoding, packing, encoding)
    name = f"{len(paths)} recordings, HuBERT-base's shape, one thread a stage"
    rows.add(f"{name}: the job / its longest stage", walls, longest, at_most=1.2)
    waiting = Waiting(encoder, longest / len(batches))
    wall = median(whole(waiting, f"w{number}") for number in range(max(1, size.repeats // 2)))
    longest = max(decoding, packing, waiting.seconds * len(batches))
    rows.add("  the same, waiting instead of encoding", wall, longest, at_most=1.2)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def gpu(rows: Rows, folder: Path) -> None:
    """Measure how much of the GPU's bfloat16 matmul rate base-size networks reach, encoding what is packed already."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    peak = matmul_rate()
    rng = np.random.default_rng(0)
    made = {
        "HuBERT-base": (
            "audio",
            hubert(folder / "hubert-gpu"),
            rng.standard_normal(5 * RATE).astype(np.float32),
        ),
        "VideoMAE-base": ("video", videomae(folder / "videomae-gpu"), None),
    }
    for name, (modality, spec, one) in made.items():
        encoder: Any = make_encoder(modality, spec, device="cuda", dtype="bfloat16")
        encoder.load()
        if one is None:
            picture = rng.integers(0, 255, (360, 480, 3), np.uint8)
            times = encoder.reader.times(0.0, 2.0)
            value = encoder.reader.read([encoder.reader.look(picture) for _ in times])
        else:
            value = encoder.reader.read(one)
        values = [value] * 256
        with FlopCounterMode(display=False) as counter:
            encoder.encode(encoder.pack(values))
        packed = [encoder.pack(values) for _ in range(4)]
        torch.cuda.synchronize()
        seconds, _ = timed(lambda encoder=encoder, packed=packed: [encoder.encode(one) for one in packed])
        rate = 4 * counter.get_total_flops() / seconds
        print(f"{name} shape, bfloat16: {4 * len(values) / seconds:,.0f} utterances/s")
        rows.add(
            f"{name} shape, bfloat16, FLOP/s / matmul peak",
            rate / 1e12,
            peak / 1e12,
            reach=0.5,
            unit="TFLOP/s",
        )


def matmul_rate(n: int = 8192) -> float:
    """Return the FLOP/s of a large bfloat16 matrix product, the best of ten."""
    import torch

    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize()
        seconds, _ = timed(lambda: (a @ b, torch.cuda.synchronize()))
        best = min(best, seconds)
    return 2 * n**3 / best


def busy_gpu(rows: Rows, folder: Path, paths: list[Path]) -> None:
    """Measure how long the GPU waits for decoding in a whole job."""
    store = store_of(folder / "gpu", paths)
    encoder = make_encoder("audio", str(folder / "hubert-gpu"), device="cuda", dtype="bfloat16")
    (outcome,) = pipeline.run(store, job.plan(store, [encoder]))
    spent = outcome.spent
    print(f"{len(paths)} recordings: {len(paths) / spent['seconds']:,.1f} utterances/s")
    rows.add(
        "  waited for decoding / the whole job", spent["waited_for_decoding"], spent["seconds"], share=True
    )


def main() -> None:
    arguments = arguments_of(__doc__, small="fewer texts and recordings, fewer repetitions")
    size = SMALL if arguments.small else FULL
    rows = Rows(full=size.full)
    import torch  # here, so that worker processes, which import this file, need not
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "media").mkdir()
        paths = write_sounds(folder / "media", size.sounds)
        text(rows, size, "cpu")
        speech(rows, folder, paths, size, "cpu")
        overlap(rows, folder, paths, size)
        if torch.cuda.is_available():
            print(torch.cuda.get_device_name())
            text(rows, size, "cuda")
            gpu(rows, folder)
            busy_gpu(rows, folder, paths)
        else:
            print("no GPU here: its part is left out")
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    main()
