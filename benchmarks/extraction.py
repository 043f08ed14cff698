"""Speed of unit extraction: full-size HuBERT base with random weights, 64 clips of mixed length, on a CPU.

Four variants take turns in every round, on the same clips, threads and centroids (100, layer 6):

- `transformers, 12 layers`: one file at a time, `HubertModel` as it is, `hidden_states[6]`, scikit-learn's `predict`
- `transformers, 6 layers`: the same, stopped at layer 6
- `ours, alone`: `UnitEncoder.encode_frames`, one file at a time
- `ours, batched`: `UnitEncoder.encode_frames`, all files at once

    python benchmarks/extraction.py --data-root ../shared/data [--threads 2] [--rounds 3] [--json result.json]

Without `--data-root` the clips are bursts of noise of the same lengths. The script fails (exit code 1) if a unit
differs although its two best centroids are further apart than 1e-6 relative, or if a bar is missed: batched at least
1.4 times the audio per second of the first variant, and not slower than the second. Wall times need idle cores;
processor times are printed beside them.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from transformers import HubertConfig, HubertModel

from speechprompt_hf.core.audio_io import load_waveform
from speechprompt_hf.core.files import write_json
from speechprompt_hf.processors import UnitEncoder

LAYER, NUM_UNITS, TIE = 6, 100, 1e-6
SETS = {"fsdd": 8, "lt_speech_commands": 16, "kathleen_en": 12, "emodb": 12, "speechocean762": 8, "coffee_orders": 8}

Units = list[np.ndarray]


def real_clips(root: Path, seed: int) -> list[np.ndarray]:
    """64 test recordings of six corpora."""
    import pyarrow.parquet

    generator = np.random.default_rng(seed)
    clips = []
    for name, count in SETS.items():
        column = pyarrow.parquet.read_table(root / name / "test.parquet", columns=["audio"])["audio"]
        for index in generator.choice(len(column), count, replace=False):
            clips.append(load_waveform(io.BytesIO(column[int(index)].as_py())))
    return clips


def noise_clips(seed: int) -> list[np.ndarray]:
    """64 bursts of noise, 0.3 to 14 s, as long as real clips are."""
    generator = np.random.default_rng(seed)
    lengths = (np.exp(generator.normal(0.9, 0.8, 64)).clip(0.3, 14) * 16000).astype(int)
    return [
        (0.05 * generator.standard_normal(length) * np.abs(np.sin(np.arange(length) / 2000))).astype(np.float32)
        for length in lengths
    ]


def one_at_a_time(model: Any, kmeans: KMeans, clips: list[np.ndarray]) -> Units:
    """Units by transformers and scikit-learn."""
    units = []
    with torch.inference_mode():
        for clip in clips:
            states = model(torch.from_numpy(clip)[None], output_hidden_states=True).hidden_states[LAYER][0]
            units.append(kmeans.predict(states.numpy()))
    return units


def set_up(clips: list[np.ndarray]) -> tuple[dict[str, Callable[[], Units]], UnitEncoder]:
    """The variants, all with the same weights and centroids."""
    torch.manual_seed(0)
    whole = HubertModel(HubertConfig()).eval()
    cut = HubertModel(HubertConfig(num_hidden_layers=LAYER)).eval()
    cut.load_state_dict(whole.state_dict(), strict=False)
    size = whole.config.hidden_size
    probe = UnitEncoder.from_model(whole, np.zeros((1, size), np.float32), layer=LAYER, normalization="none")
    features = torch.cat(probe.features(clips[::4])).numpy()
    kmeans = KMeans(NUM_UNITS, n_init=1, max_iter=20, random_state=0).fit(features)
    ours = UnitEncoder.from_model(whole, kmeans.cluster_centers_, layer=LAYER, normalization="none")
    variants: dict[str, Callable[[], Units]] = {
        "transformers, 12 layers": lambda: one_at_a_time(whole, kmeans, clips),
        "transformers, 6 layers": lambda: one_at_a_time(cut, kmeans, clips),
        "ours, alone": lambda: [ours.encode_frames([clip])[0] for clip in clips],
        "ours, batched": lambda: ours.encode_frames(clips),
    }
    return variants, ours


def count_differences(units: Units, reference: Units, margins: list[np.ndarray]) -> int:
    """Frames that differ and are no tie."""
    return sum(
        int(((one != other) & (margin > TIE)).sum())
        for one, other, margin in zip(units, reference, margins, strict=True)
    )


def measure(clips: list[np.ndarray], rounds: int) -> dict[str, Any]:
    """Run all variants in turn; seconds are medians over the rounds."""
    variants, ours = set_up(clips)
    margins = [ours.quantizer.predict_with_margins(features)[1].numpy() for features in ours.features(clips)]
    audio_s = sum(map(len, clips)) / 16000
    wall: dict[str, list[float]] = {name: [] for name in variants}
    processor: dict[str, list[float]] = {name: [] for name in variants}
    differences = dict.fromkeys(variants, 0)
    reference: Units = []
    for _ in range(rounds):
        for name, run in variants.items():
            start, start_processor = time.perf_counter(), time.process_time()
            units = run()
            wall[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_processor)
            print(f"{name}: {wall[name][-1]:.1f} s, {processor[name][-1]:.1f} s of processor", file=sys.stderr)
            reference = reference or units
            differences[name] = max(differences[name], count_differences(units, reference, margins))
    first, second, *_ = variants
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "clips": len(clips),
        "audio_seconds": round(audio_s, 2),
        "frames": sum(map(len, reference)),
        "ties": sum(int((margin <= TIE).sum()) for margin in margins),
        "rounds": rounds,
        "variants": {
            name: {
                "seconds": statistics.median(wall[name]),
                "processor_seconds": statistics.median(processor[name]),
                "audio_per_second": audio_s / statistics.median(wall[name]),
                "times_12_layers": statistics.median(wall[first]) / statistics.median(wall[name]),
                "times_6_layers": statistics.median(wall[second]) / statistics.median(wall[name]),
                "times_12_layers_processor": statistics.median(processor[first]) / statistics.median(processor[name]),
                "times_6_layers_processor": statistics.median(processor[second]) / statistics.median(processor[name]),
                "differing_frames": differences[name],
            }
            for name in variants
        },
    }


def print_table(result: dict[str, Any]) -> None:
    print(
        f"{result['clips']} clips, {result['audio_seconds']} s, {result['frames']} frames, {result['ties']} ties, "
        f"{result['machine']['threads']} threads, torch {result['torch']}, median of {result['rounds']} rounds"
    )
    header = ("wall s", "cpu s", "audio/s", "x 12", "x 6", "x 12 cpu", "x 6 cpu", "differing")
    print(f"{'':26}" + "".join(f"{title:>10}" for title in header))
    for name, row in result["variants"].items():
        values = list(row.values())
        print(f"{name:26}" + "".join(f"{value:10.2f}" for value in values[:-1]) + f"{values[-1]:10d}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder of the public speech data")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=64, help="every n-th clip, to try the script")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clips = real_clips(arguments.data_root, arguments.seed) if arguments.data_root else noise_clips(arguments.seed)
    result = measure(clips[:: max(1, 64 // arguments.clips)], arguments.rounds)
    print_table(result)
    if arguments.json:
        write_json(arguments.json, result)
    batched = result["variants"]["ours, batched"]
    exact = all(row["differing_frames"] == 0 for row in result["variants"].values())
    return int(not (exact and batched["times_12_layers"] >= 1.4 and batched["times_6_layers"] >= 1.0))


if __name__ == "__main__":
    sys.exit(main())
