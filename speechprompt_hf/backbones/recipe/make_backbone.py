"""Makes the embedded default backbone, stage by stage: see README.md beside this file for what it took.

    python -m speechprompt_hf.backbones.recipe.make_backbone teach    --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone distill  --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone quantize --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone units    --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone pretrain --data ../shared/data --work WORK
    python -m speechprompt_hf.backbones.recipe.make_backbone infill   --data ../shared/data --work WORK

Every stage can be stopped and goes on where it was. The results are the folders WORK/default, with a GSLM, and
WORK/unit_mbart, with a Unit mBART on the same units. To begin at `units`, with the encoder and the centroids that
ship, copy `speechprompt_hf/backbones/default` to WORK/default.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    speak_each,
)
from speechprompt_hf.core.embedded import DEFAULT_BASE
from speechprompt_hf.core.files import read_json, write_json
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.pretraining.augmentation import AugmentationConfig, augment
from speechprompt_hf.pretraining.distillation import DistillationConfig, distill
from speechprompt_hf.pretraining.features import hidden_states, varied_clips
from speechprompt_hf.pretraining.gslm_pretraining import PretrainingConfig, pretrain_gslm
from speechprompt_hf.pretraining.quantization import fit_quantizer, save_centroids
from speechprompt_hf.pretraining.student import export_encoder
from speechprompt_hf.pretraining.teacher import WhisperTeacher, write_shard
from speechprompt_hf.pretraining.unit_mbart_pretraining import UnitMBartPretrainingConfig, pretrain_unit_mbart
from speechprompt_hf.processors import SpeechUnitProcessor, UnitEncoder

ENCODER_ID = "speechprompt-hf/tiny-hubert"
BASE_VERSION = "1"
NUM_CLUSTERS = 100
OTHER_NUM_CLUSTERS = (50, 200)
LAYER = 3
QUANTIZER_SEED = 0
LANGUAGES = ("en", "de", "nl")
# Without dropout on attention weights: with it, CPUs fall back to a slow kernel.
MODEL = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "attention_dropout": 0.0,
}
# As many parameters as the GSLM: a decoder's layer also attends to the encoder.
MBART_MODEL = {**MODEL, "num_encoder_layers": 2, "num_hidden_layers": 2, "intermediate_size": 640}
SHARDS = ("real_plain", "real_slow", "espeak")


def teach(data: Path, work: Path) -> None:
    """Teacher features: recordings as they are, once more slowed down (0.78 to 0.92), 2.5 h of synthetic speech."""
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
    held = [wave for name in REAL_SETS for wave in read_real(data, name, "validation")]
    held += speak(plan_synthetic(data, num_words=300, num_sentences=60, seed=91), seed=92)
    order = np.random.default_rng(93).permutation(len(held))
    write_shard(work / "teacher" / "validation", [held[i] for i in order], teacher)


def distil(data: Path, work: Path) -> None:
    """The encoder: two cycles on the teacher's features, a third with prototypes of its units."""
    folders = [work / "teacher" / shard for shard in SHARDS]
    validation = [work / "teacher" / "validation"]
    first = DistillationConfig(cycles=((1500, 1e-3), (2600, 7e-4)))
    distill(folders, work / "student", first, validation=validation)
    last = DistillationConfig(cycles=((1500, 5e-4),), warp_from_cycle=0, num_units=100, warm_up_steps=100, seed=1)
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
    for number in OTHER_NUM_CLUSTERS:
        other = fit_quantizer(frames, number, seed=QUANTIZER_SEED, num_epochs=4, num_full_passes=8)
        save_centroids(torch.from_numpy(other.centroids), work / f"quantizer_{number}.safetensors")


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
    """The units of all training speech in two versions, and of held-out speech; each with its language."""
    processor = SpeechUnitProcessor.from_pretrained(work / "default")
    natural = [
        ("en", wave) for wave in speak_natural(plan_natural(data, num_words=2000, num_sentences=500, seed=51), seed=52)
    ]
    parts = {
        "train": [
            *recordings(data, "train"),
            *speak_each(plan_synthetic(data, num_words=4000, num_sentences=1000, seed=31), seed=32),
            *natural,
        ],
        "validation": [
            *recordings(data, "validation"),
            *speak_each(plan_synthetic(data, num_words=300, num_sentences=60, seed=91), seed=92),
        ],
    }
    for name, clips in parts.items():
        num_versions = 2 if name == "train" else 1
        languages = [language for language, _ in clips] * num_versions
        waves = versions([wave for _, wave in clips], 33, num_versions=num_versions)
        spoken = [
            pair
            for pair in tqdm(zip(languages, waves, strict=True), total=len(languages), desc="speech")
            if len(pair[1]) >= 720
        ]
        with (work / f"units_{name}.jsonl").open("w", encoding="utf-8") as file:
            for start in tqdm(range(0, len(spoken), 16), desc=f"units {name}"):
                block = spoken[start : start + 16]
                sequences = processor.encode_units([wave for _, wave in block], sampling_rate=16_000)
                for (language, _), sequence in zip(block, sequences, strict=True):
                    file.write(json.dumps({"units": sequence.units.tolist(), "language": language}) + "\n")


def recordings(data: Path, split: str) -> list[tuple[str, np.ndarray]]:
    """Language and wave of each recording."""
    return [(language, wave) for name, language in REAL_SETS.items() for wave in read_real(data, name, split)]


def read_corpus(work: Path, name: str) -> list[dict[str, Any]]:
    """The rows `{"units", "language"}` that [`extract_units`] wrote."""
    return [json.loads(line) for line in (work / f"units_{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def pretrain(data: Path, work: Path) -> None:
    """The unit language model, written into the default folder."""
    processor = SpeechUnitProcessor.from_pretrained(work / "default")
    model = pretrain_gslm(
        [row["units"] for row in read_corpus(work, "train")],
        work / "gslm",
        PretrainingConfig(num_steps=900, tokens_per_step=3072, model=MODEL),
        vocabulary=UnitVocabulary.from_num_units(NUM_CLUSTERS),
        validation=[row["units"] for row in read_corpus(work, "validation")],
        fingerprint=processor.fingerprint,
    )
    copy_model(work / "gslm", work / "default")
    tqdm.write(f"{model.num_parameters()} parameters written to {work / 'default'}")


def infill(data: Path, work: Path) -> None:
    """The Unit mBART in English, German and Dutch, in a folder whose processor reads the default's encoder.

    It opens once that default is the one inside the package.
    """
    processor = SpeechUnitProcessor.from_pretrained(work / "default")
    corpus = {
        name: [row for row in read_corpus(work, name) if row["language"] in LANGUAGES]
        for name in ("train", "validation")
    }
    model = pretrain_unit_mbart(
        [row["units"] for row in corpus["train"]],
        work / "mbart",
        UnitMBartPretrainingConfig(num_steps=1000, tokens_per_step=6144, model=MBART_MODEL),
        vocabulary=UnitVocabulary.from_num_units(NUM_CLUSTERS),
        languages=[row["language"] for row in corpus["train"]],
        validation=[row["units"] for row in corpus["validation"]],
        validation_languages=[row["language"] for row in corpus["validation"]],
        fingerprint=processor.fingerprint,
    )
    processor.save_pretrained(work / "unit_mbart", base_source=DEFAULT_BASE)
    copy_model(work / "mbart", work / "unit_mbart", language=LANGUAGES[0])
    tqdm.write(f"{model.num_parameters()} parameters written to {work / 'unit_mbart'}")


def copy_model(source: Path, destination: Path, **values: str) -> None:
    """Weights and configuration, which also says the version of the base."""
    (destination / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    write_json(
        destination / "config.json", {**read_json(source / "config.json"), "base_version": BASE_VERSION, **values}
    )


STAGES = {
    "teach": teach,
    "distill": distil,
    "quantize": quantize,
    "units": extract_units,
    "pretrain": pretrain,
    "infill": infill,
}


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
