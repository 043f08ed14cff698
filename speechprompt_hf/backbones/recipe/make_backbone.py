"""Makes the embedded default backbone, stage by stage: see README.md beside this file for what it took.

    python -m speechprompt_hf.backbones.recipe.make_backbone teach    --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone distill  --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone quantize --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone units    --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone pretrain --data ../shared/data --work WORK

Every stage can be stopped and goes on where it was. The result is the folder WORK/default.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import HubertModel

from speechprompt_hf.backbones.recipe.natural_voices import plan_natural, speak_natural
from speechprompt_hf.backbones.recipe.speech import (
    REAL_SETS,
    change_speed,
    equal_level,
    plan_synthetic,
    read_real,
    speak,
)
from speechprompt_hf.core.files import write_json
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.pretraining.augmentation import AugmentationConfig, augment
from speechprompt_hf.pretraining.distillation import DistillationConfig, distill
from speechprompt_hf.pretraining.features import hidden_states, varied_clips
from speechprompt_hf.pretraining.gslm_pretraining import PretrainingConfig, pretrain_gslm
from speechprompt_hf.pretraining.quantization import fit_quantizer
from speechprompt_hf.pretraining.student import export_encoder
from speechprompt_hf.pretraining.teacher import WhisperTeacher, write_shard
from speechprompt_hf.processors import SpeechUnitProcessor, UnitEncoder

ENCODER_ID = "speechprompt-hf/tiny-hubert"
NUM_CLUSTERS = 100
LAYER = 3
QUANTIZER_SEED = 0
# Without dropout on attention weights: with it, CPUs fall back to a slow kernel.
MODEL = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "attention_dropout": 0.0,
}
SHARDS = ("real_plain", "real_slow", "espeak", "flite")


def teach(data: Path, work: Path) -> None:
    """Teacher features: recordings as they are, once more slowed down (0.78 to 0.92), 4 h of synthetic speech."""
    teacher = WhisperTeacher()
    real = [wave for name in REAL_SETS for wave in read_real(data, name)]
    for shard, seed in (("real_plain", 1), ("real_slow", 2)):
        generator = np.random.default_rng(seed)
        clips = real
        if shard == "real_slow":
            clips = [equal_level(change_speed(wave, generator.uniform(0.78, 0.92))) for wave in real]
        write_shard(work / "teacher" / shard, [clips[i] for i in generator.permutation(len(clips))], teacher)
    words = speak(plan_synthetic(data, num_words=6000, num_sentences=1500, seed=11), seed=12)
    order = np.random.default_rng(13).permutation(len(words))
    write_shard(work / "teacher" / "espeak", [words[i] for i in order], teacher)
    voices = speak_natural(plan_natural(data, num_words=5000, num_sentences=900, seed=41), seed=42)
    order = np.random.default_rng(43).permutation(len(voices))
    write_shard(work / "teacher" / "flite", [voices[i] for i in order], teacher)
    held = [wave for name in REAL_SETS for wave in read_real(data, name, "validation")]
    held += speak(plan_synthetic(data, num_words=300, num_sentences=60, seed=91), seed=92)
    order = np.random.default_rng(93).permutation(len(held))
    write_shard(work / "teacher" / "validation", [held[i] for i in order], teacher)


def distil(data: Path, work: Path) -> None:
    """The encoder: that of version 1 with two layers on top, then with prototypes of the teacher's units."""
    folders = [work / "teacher" / shard for shard in SHARDS]
    validation = [work / "teacher" / "validation"]
    first = DistillationConfig(cycles=((4000, 8e-4),), warp_from_cycle=0, student={"num_hidden_layers": 5}, seed=2)
    distill(folders, work / "student", first, validation=validation, start_from=work / "encoder_1")
    last = replace(first, cycles=((3000, 5e-4),), num_units=100, warm_up_steps=100, seed=3)
    distill(folders, work / "student_units", last, validation=validation, start_from=work / "student")


def quantize(data: Path, work: Path) -> None:
    """100 clusters on varied pieces of all training speech, then the processor's files."""
    encoder = HubertModel.from_pretrained(work / "student_units" / "encoder", dtype=torch.float32)
    speech = tqdm(quantizer_speech(data), desc="features")
    frames = np.concatenate(hidden_states(encoder, speech, [LAYER])[0])
    fit = fit_quantizer(frames, NUM_CLUSTERS, seed=QUANTIZER_SEED, num_epochs=4, num_full_passes=8)
    unit_encoder = UnitEncoder.from_model(
        encoder, fit.centroids, layer=LAYER, normalization="zero_mean_unit_variance", encoder_id=ENCODER_ID
    )
    folder = work / "default"
    SpeechUnitProcessor.from_unit_encoder(unit_encoder).save_pretrained(folder, save_encoder=True)
    # Cut above the layer by now; float16 halves the file, and the student's weights are float16 already.
    export_encoder(HubertModel.from_pretrained(folder / "encoder", dtype=torch.float32), folder / "encoder")
    write_json(work / "quantizer.json", {"frames": len(frames), "inertia": fit.inertia, "shares": fit.shares.tolist()})


def quantizer_speech(data: Path) -> list[np.ndarray]:
    """What k-means sees: pieces of 0.3 to 3 s, real and synthetic alike, 60 % of them disturbed or band-limited."""
    generator = np.random.default_rng(21)
    real = [wave for name in REAL_SETS for wave in read_real(data, name)]
    real += [equal_level(change_speed(wave, generator.uniform(0.8, 1.2))) for wave in real]
    words = speak(plan_synthetic(data, num_words=2500, num_sentences=100, seed=22), seed=23)
    pieces = varied_clips(real, generator, num_clips=2500) + varied_clips(words, generator, num_clips=2000)
    return [pieces[index] for index in np.random.default_rng(0).permutation(len(pieces))[:3000]]


def versions(waves: list[np.ndarray], seed: int, *, num_versions: int) -> Iterator[np.ndarray]:
    """Each recording as it is, then at other speeds and disturbed."""
    generator = np.random.default_rng(seed)
    mild = AugmentationConfig(equaliser_decibels=4.0, noise_decibels=(12.0, 40.0), level_decibels=0.0)
    yield from waves
    for _ in range(num_versions - 1):
        for wave in waves:
            other = change_speed(wave, generator.uniform(0.8, 1.25))
            yield augment(torch.from_numpy(other)[None], generator, mild)[0].numpy()


def extract_units(data: Path, work: Path) -> None:
    """The units of all training speech in several versions, and of held-out speech."""
    processor = SpeechUnitProcessor.from_pretrained(work / "default")
    real = [wave for name in REAL_SETS for wave in read_real(data, name)]
    words = speak(plan_synthetic(data, num_words=4000, num_sentences=1000, seed=31), seed=32)
    held = [wave for name in REAL_SETS for wave in read_real(data, name, "validation")]
    held += speak(plan_synthetic(data, num_words=300, num_sentences=60, seed=91), seed=92)
    parts = {
        "train": [*versions(real, 33, num_versions=2), *versions(words, 34, num_versions=2)],
        "validation": held,
    }
    for name, waves in parts.items():
        with (work / f"units_{name}.jsonl").open("w", encoding="utf-8") as file:
            for start in tqdm(range(0, len(waves), 16), desc=f"units {name}"):
                block = [wave for wave in waves[start : start + 16] if len(wave) >= 720]
                for sequence in processor.encode_units(block, sampling_rate=16_000):
                    file.write(json.dumps(sequence.units.tolist()) + "\n")


def pretrain(data: Path, work: Path) -> None:
    """The unit language model, written into the default folder."""
    processor = SpeechUnitProcessor.from_pretrained(work / "default")
    corpus = {
        name: [json.loads(line) for line in (work / f"units_{name}.jsonl").read_text().splitlines()]
        for name in ("train", "validation")
    }
    model = pretrain_gslm(
        corpus["train"],
        work / "gslm",
        PretrainingConfig(num_steps=900, tokens_per_step=3072, model=MODEL),
        vocabulary=UnitVocabulary.from_num_units(NUM_CLUSTERS),
        validation=corpus["validation"],
        fingerprint=processor.fingerprint,
    )
    for name in ("config.json", "model.safetensors"):
        (work / "default" / name).write_bytes((work / "gslm" / name).read_bytes())
    tqdm.write(f"{model.num_parameters()} parameters written to {work / 'default'}")


STAGES = {"teach": teach, "distill": distil, "quantize": quantize, "units": extract_units, "pretrain": pretrain}


def main() -> None:
    """Runs one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--data", type=Path, required=True, help="folder with one sub-folder of Parquet a set")
    parser.add_argument("--work", type=Path, required=True, help="folder for features, checkpoints and results")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    STAGES[arguments.stage](arguments.data, arguments.work)


if __name__ == "__main__":
    main()
