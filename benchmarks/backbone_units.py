"""How good are the units: words of unseen speakers, told apart by 1-3-grams of units.

Three folds of `fsdd`, each with two unseen speakers (george+lucas, jackson+nicolas, theo+yweweler), 8 kHz brought to
16 kHz; or five folds of `lt_speech_commands`, grouped by speaker. One unit per 20 ms, runs merged, TF-IDF of 1-3-grams
(sublinear, min_df 2), LinearSVC(C=1). "outside": k-means never saw the set; "inside": k-means fitted on the fold's
training speakers.

    python benchmarks/backbone_units.py --data ../shared/data [--set lt_speech_commands] [--mfcc] [--teacher]
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr
import torch
from safetensors.torch import load_file
from scipy.fft import dct
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupKFold
from sklearn.svm import LinearSVC
from transformers import HubertModel

from speechprompt_hf.backbones.recipe.speech import REAL_SETS, plan_synthetic, read_real, speak
from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.files import read_json, write_json
from speechprompt_hf.core.units import merge_runs
from speechprompt_hf.pretraining.features import hidden_states, varied_clips
from speechprompt_hf.pretraining.quantization import fit_quantizer, nearest

FSDD_PAIRS = (("george", "lucas"), ("jackson", "nicolas"), ("theo", "yweweler"))
LABEL_COLUMNS = {"fsdd": "digit", "lt_speech_commands": "word"}

Data = tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]
"""Waves at 16 kHz, labels, and for each fold which recordings are held out."""


def read_set(root: Path, name: str) -> Data:
    """A set's recordings, labels and folds."""
    waves, labels, speakers = [], [], []
    for split in ("train", "validation", "test"):
        columns = ["audio", LABEL_COLUMNS[name], "speaker"]
        for row in pq.read_table(root / name / f"{split}.parquet", columns=columns).to_pylist():
            wave, rate = soundfile.read(io.BytesIO(row["audio"]), dtype="float32")
            waves.append(soxr.resample(wave, rate, 16_000).astype(np.float32))
            labels.append(str(row[LABEL_COLUMNS[name]]))
            speakers.append(row["speaker"])
    if name == "fsdd":
        return waves, np.array(labels), [np.isin(speakers, pair) for pair in FSDD_PAIRS]
    splitter = GroupKFold(5, shuffle=True, random_state=0)
    folds = [np.isin(np.arange(len(waves)), test) for _, test in splitter.split(speakers, groups=speakers)]
    return waves, np.array(labels), folds


def quantize(features: list[np.ndarray], centroids: np.ndarray) -> list[str]:
    """Merged units of each recording as text."""
    labels = nearest(torch.from_numpy(np.concatenate(features)), torch.from_numpy(centroids))[0].numpy()
    bounds = np.cumsum([len(part) for part in features])[:-1]
    return [" ".join(map(str, merge_runs(part)[0])) for part in np.split(labels, bounds)]


def classify(train: list[str], train_labels: np.ndarray, test: list[str], test_labels: np.ndarray) -> float:
    """Accuracy of TF-IDF and a linear SVM."""
    tfidf = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 3), sublinear_tf=True, min_df=2, lowercase=False)
    machine = LinearSVC(C=1.0).fit(tfidf.fit_transform(train), train_labels)
    return float(machine.score(tfidf.transform(test), test_labels))


def measure(
    features: list[np.ndarray],
    labels: np.ndarray,
    folds: list[np.ndarray],
    outside: np.ndarray | None,
    *,
    num_clusters: int,
    seed: int,
) -> dict[str, object]:
    """Accuracy of each fold with k-means fitted outside (if given) and inside."""
    result: dict[str, list[float]] = {"outside": [], "inside": []}
    for held in folds:
        fit = fit_quantizer(
            np.concatenate([part for part, out in zip(features, held, strict=True) if not out]),
            num_clusters,
            seed=seed,
            show_progress=False,
        )
        for name, centroids in (("outside", outside), ("inside", fit.centroids)):
            if centroids is None:
                continue
            units = np.array(quantize(features, centroids), dtype=object)
            result[name].append(classify(list(units[~held]), labels[~held], list(units[held]), labels[held]))
    return {
        name: {"mean": round(float(np.mean(scores)), 4), "folds": [round(score, 4) for score in scores]}
        for name, scores in result.items()
        if scores
    }


def mfcc(wave: np.ndarray) -> np.ndarray:
    """13 MFCC of unit-RMS speech with first and second differences, every 20 ms: float32 of shape (T, 39)."""
    wave = wave / max(1e-4, float(wave.std()))
    wave = np.pad(np.append(wave[0], wave[1:] - 0.97 * wave[:-1]), (200, 600))
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hamming(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    bins = edges / 8000 * 256
    ramps = np.arange(257)[None]
    rise = (ramps - bins[:-2, None]) / np.diff(bins)[:-1, None]
    fall = (bins[2:, None] - ramps) / np.diff(bins)[1:, None]
    mel = power @ np.maximum(0, np.minimum(rise, fall)).T
    mel = np.log(np.maximum(mel, 1e-8 * mel.max()))  # 80 dB below the loudest, as librosa does it
    cepstra = dct(mel, type=2, norm="ortho")[:, :13]
    padded = np.pad(cepstra, ((4, 4), (0, 0)), mode="edge")
    delta = (padded[6:] - padded[:-6])[: len(padded) - 6] / 6
    second = (delta[2:] - delta[:-2]) / 2
    return np.concatenate([cepstra, delta[1:-1], second], axis=1)[::2].astype(np.float32)


def outside_speech(root: Path, *, seed: int = 0) -> list[np.ndarray]:
    """Speech of other sets, band-limited and short pieces among it, for k-means that never sees fsdd."""
    generator = np.random.default_rng(seed)
    clips = [wave for name in REAL_SETS for wave in read_real(root, name)]
    words = speak(plan_synthetic(root, num_words=1500, num_sentences=100, seed=seed + 1), seed=seed + 2)
    return varied_clips(clips, generator, num_clips=1500) + varied_clips(words, generator, num_clips=1500)


def measure_standardised(
    features: list[np.ndarray], outside: list[np.ndarray], data: Data, *, num_clusters: int, seed: int
) -> dict[str, object]:
    """Rows of features whose dimensions differ in scale: standardised by the speech that k-means is fitted on.

    Without it five of Whisper's 384 dimensions hold 39 % of the variance, and its row falls from .96 to .56 inside.
    """
    _, labels, folds = data
    settings = {"num_clusters": num_clusters, "seed": seed}
    flat, own = np.concatenate(outside), np.concatenate(features)
    mean, deviation = flat.mean(0), flat.std(0)
    fit = fit_quantizer((flat - mean) / deviation, num_clusters, seed=seed, show_progress=False)
    foreign = [(part - mean) / deviation for part in features]
    native = [(part - own.mean(0)) / own.std(0) for part in features]
    return {
        "outside": measure(foreign, labels, folds, fit.centroids, **settings)["outside"],
        "inside": measure(native, labels, folds, None, **settings)["inside"],
    }


def measure_mfcc(root: Path, data: Data, **settings: int) -> dict[str, object]:
    """The row of MFCC."""
    return measure_standardised(
        [mfcc(wave) for wave in data[0]], [mfcc(wave) for wave in outside_speech(root)], data, **settings
    )


def measure_teacher(root: Path, data: Data, **settings: int) -> dict[str, object]:
    """The row of the teacher: Whisper's last encoder layer over packed windows."""
    from speechprompt_hf.pretraining.packing import lay_out, pack_clips
    from speechprompt_hf.pretraining.teacher import WhisperTeacher

    teacher = WhisperTeacher()

    def teach(clips: list[np.ndarray]) -> list[np.ndarray]:
        spans = pack_clips([len(clip) for clip in clips])
        windows = lay_out([0.08 * clip / max(1e-4, float(clip.std())) for clip in clips], spans)
        encoded = np.concatenate([teacher.encode(windows[start : start + 4]) for start in range(0, len(windows), 4)])
        features: list[np.ndarray] = [np.empty(0)] * len(clips)
        for span in spans:
            last = max(span.start // 320 + 1, (span.start + span.length) // 320)
            features[span.clip] = encoded[span.window, -(-span.start // 320) : last].astype(np.float32)
        return features

    return measure_standardised(teach(data[0]), teach(outside_speech(root)), data, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the set and those of the recipe")
    parser.add_argument("--set", choices=sorted(LABEL_COLUMNS), default="fsdd", help="which recordings")
    parser.add_argument("--base", default=DEFAULT_BASE, help="base folder with encoder/ and quantizer.safetensors")
    parser.add_argument("--mfcc", action="store_true", help="also measure MFCC")
    parser.add_argument("--teacher", action="store_true", help="also measure the teacher (needs the extra 'distill')")
    parser.add_argument("--seed", type=int, default=0, help="seed of the k-means fitted here")
    parser.add_argument("--json", type=Path, help="write the result there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(resolve_base(arguments.base))
    layer = read_json(folder / "processor_config.json")["unit_encoder"]["layer"]
    centroids = load_file(folder / "quantizer.safetensors")["centroids"].numpy()
    data = read_set(arguments.data, arguments.set)
    encoder = HubertModel.from_pretrained(folder / "encoder", dtype=torch.float32)
    started = time.perf_counter()
    features = hidden_states(encoder, data[0], [layer])[0]
    seconds = time.perf_counter() - started
    settings = {"num_clusters": len(centroids), "seed": arguments.seed}
    rows = {"backbone": measure(features, data[1], data[2], centroids, **settings)}
    if arguments.mfcc:
        rows["mfcc"] = measure_mfcc(arguments.data, data, **settings)
    if arguments.teacher:
        rows["teacher"] = measure_teacher(arguments.data, data, **settings)
    audio_seconds = sum(len(wave) for wave in data[0]) / 16_000
    result = {
        "set": arguments.set,
        "layer": layer,
        **settings,
        "times_real_time": round(audio_seconds / seconds, 1),
        "rows": rows,
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
