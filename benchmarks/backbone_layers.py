"""What each layer of the encoder knows, before anything is trained on it: phones, words, and who says them.

For each layer, with 100 clusters that k-means fits on the recipe's speech (none of what is measured here):

- phone purity, cluster purity and phone-normalised mutual information (HuBERT, section IV-C) of the clusters, on
  English sentences of `speechocean762`'s test speakers; phones by PocketSphinx, which aligns the given text, frames of
  silence left out;
- the same information on German, `kerstin_de`'s test and validation sentences, whose phones an independent recogniser
  (hama, 2.2 M parameters) hears; it writes English phones, so that the figure compares layers, not languages;
- ABX error across speakers on the words of `lt_speech_commands`: of the features themselves, and of their clusters
  (each frame the one-hot vector of its cluster); time warping over angles, 0.5 is chance;
- accuracy of 1-3-grams of the clusters with a linear classifier, on the words of unseen speakers of
  `lt_speech_commands`.

MFCC stand beside them. Needs `pip install pocketsphinx==5.1.1 hama==1.7.0`.

    python benchmarks/backbone_layers.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr
import torch
from backbone_units import classify, mfcc, outside_speech, quantize, read_set
from hama.asr import ASRModel
from pocketsphinx import Decoder
from transformers import HubertModel

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.files import write_json, write_text
from speechprompt_hf.evaluation.unit_quality import abx_error, phone_agreement
from speechprompt_hf.pretraining.features import hidden_states
from speechprompt_hf.pretraining.quantization import fit_quantizer, nearest

RATE_HZ = 16_000
FRAME_SECONDS = 0.02
WORDS = "lt_speech_commands"


def read_waves(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of a Parquet file with float32 `wave` at 16 kHz."""
    rows = pq.read_table(path, columns=["audio", *columns]).to_pylist()
    for row in rows:
        wave, rate = soundfile.read(io.BytesIO(row.pop("audio")), dtype="float32")
        row["wave"] = soxr.resample(wave, rate, RATE_HZ).astype(np.float32)
    return rows


def align(decoder: Decoder, wave: np.ndarray, text: str) -> list[str] | None:
    """Phones of 10-ms frames by forced alignment, or `None` where the text cannot be aligned."""
    samples = (wave * 32767).astype(np.int16).tobytes()

    def decode() -> None:
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()

    try:
        decoder.set_align_text(text.lower())
        decode()
        decoder.set_alignment()
        decode()
        alignment = decoder.get_alignment()
    except (RuntimeError, ValueError):
        return None
    if alignment is None:
        return None
    return [phone.name for word in alignment for phone in word for _ in range(phone.duration)]


def aligned_sentences(root: Path, count: int) -> tuple[list[np.ndarray], list[list[str]]]:
    """Test recordings of `speechocean762` and their phones, one name a 10-ms frame."""
    decoder = Decoder(lm=None, loglevel="FATAL")
    waves, phones = [], []
    for row in read_waves(root / "speechocean762" / "test.parquet", ["text"])[:count]:
        aligned = align(decoder, row["wave"], row["text"])
        if aligned:
            waves.append(row["wave"])
            phones.append(aligned)
    return waves, phones


def recognised_sentences(root: Path, count: int) -> tuple[list[np.ndarray], list[list[str]]]:
    """Recordings of `kerstin_de` that are in no training split, and the recogniser's phones of 10-ms frames."""
    recogniser = ASRModel()
    rows = [
        row for split in ("test", "validation") for row in read_waves(root / "kerstin_de" / f"{split}.parquet", [])
    ]
    waves, phones = [], []
    for row in rows[:count]:
        result = recogniser.transcribe_waveform(row["wave"], RATE_HZ)
        heard = ["SIL"] * (2 * result.num_frames)
        for span in recogniser.phoneme_spans(result):
            heard[2 * span.start_frame : 2 * span.end_frame] = [span.phoneme] * (
                2 * (span.end_frame - span.start_frame)
            )
        waves.append(row["wave"])
        phones.append(heard)
    return waves, phones


def phones_and_units(
    features: Iterable[np.ndarray], phones: Iterable[list[str]], centroids: np.ndarray
) -> tuple[list[int], list[str]]:
    """Units and phones of the frames that are no silence; the phone in the middle of a frame is the frame's."""
    units: list[int] = []
    named: list[str] = []
    for frames, aligned in zip(features, phones, strict=True):
        labels = nearest(torch.from_numpy(frames), torch.from_numpy(centroids))[0].tolist()
        for number, unit in enumerate(labels):
            middle = int((number + 0.5) * FRAME_SECONDS * 100)
            if middle < len(aligned) and aligned[middle] != "SIL":
                units.append(unit)
                named.append(aligned[middle])
    return units, named


def one_hot(features: list[np.ndarray], centroids: np.ndarray) -> list[np.ndarray]:
    """Frames as one-hot vectors of their clusters."""
    eye = np.eye(len(centroids), dtype=np.float32)
    return [eye[nearest(torch.from_numpy(frames), torch.from_numpy(centroids))[0].numpy()] for frames in features]


@dataclass(frozen=True)
class Speech:
    """What is measured: recordings, or their features, and what is known of them."""

    outside: list[np.ndarray]
    english: list[np.ndarray]
    german: list[np.ndarray]
    words: list[np.ndarray]


@dataclass(frozen=True)
class Known:
    """Phones of 10-ms frames of the sentences; labels, speakers and folds of the words."""

    english: list[list[str]]
    german: list[list[str]]
    labels: np.ndarray
    speakers: list[str]
    folds: list[np.ndarray]


def measure(features: Speech, known: Known, *, seed: int) -> dict[str, float]:
    """A row of the table, of one kind of features."""
    centroids = fit_quantizer(np.concatenate(features.outside), 100, seed=seed, show_progress=False).centroids
    agreement = phone_agreement(*phones_and_units(features.english, known.english, centroids))
    german = phone_agreement(*phones_and_units(features.german, known.german, centroids))
    units, labels = np.array(quantize(features.words, centroids), dtype=object), known.labels
    accuracies = [classify(list(units[~held]), labels[~held], list(units[held]), labels[held]) for held in known.folds]
    words = (list(labels), known.speakers)
    return {
        "phone_purity": agreement.phone_purity,
        "cluster_purity": agreement.cluster_purity,
        "pnmi": agreement.pnmi,
        "frames": agreement.num_frames,
        "pnmi_german": german.pnmi,
        "frames_german": german.num_frames,
        "abx_features": abx_error(features.words, *words).error,
        "abx_units": abx_error(one_hot(features.words, centroids), *words).error,
        "ngram_accuracy": float(np.mean(accuracies)),
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: a line a layer."""
    names = ("phone_purity", "cluster_purity", "pnmi", "pnmi_german", "abx_features", "abx_units", "ngram_accuracy")
    lines = [f"| features | {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for label, row in rows.items():
        lines.append(f"| {label} | {' | '.join(f'{row[name]:.3f}' for name in names)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the sets above and those of the recipe")
    parser.add_argument("--base", default=DEFAULT_BASE, help="base folder with encoder/")
    parser.add_argument("--sentences", type=int, default=400, help="of the phones")
    parser.add_argument("--seed", type=int, default=0, help="of k-means")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "backbone_layers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    english, english_phones = aligned_sentences(arguments.data, arguments.sentences)
    german, german_phones = recognised_sentences(arguments.data, arguments.sentences // 4)
    print(f"phones of {len(english)} + {len(german)} sentences, {time.perf_counter() - started:.0f} s", flush=True)
    words, labels, folds = read_set(arguments.data, WORDS)
    speakers = [
        row["speaker"]
        for split in ("train", "validation", "test")
        for row in pq.read_table(arguments.data / WORDS / f"{split}.parquet", columns=["speaker"]).to_pylist()
    ]
    known = Known(english_phones, german_phones, labels, speakers, folds)
    speech = (outside_speech(arguments.data), english, german, words)
    encoder = HubertModel.from_pretrained(Path(resolve_base(arguments.base)) / "encoder", dtype=torch.float32)
    layers = range(encoder.config.num_hidden_layers + 1)
    rows: dict[str, dict[str, float]] = {}

    def add(name: str, features: Speech) -> None:
        rows[name] = measure(features, known, seed=arguments.seed)
        write_json(arguments.output.with_suffix(".json"), rows)
        write_text(arguments.output.with_suffix(".md"), table(rows))
        print(f"{name}, {time.perf_counter() - started:.0f} s", flush=True)

    add("MFCC", Speech(*([mfcc(wave) for wave in group] for group in speech)))
    by_layer = [hidden_states(encoder, group, list(layers)) for group in speech]
    for layer in layers:
        add(f"layer {layer}", Speech(*(group[layer] for group in by_layer)))
    print(table(rows))


if __name__ == "__main__":
    main()
