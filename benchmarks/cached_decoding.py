"""Batches with a cache against one utterance at a time without one: the same tokens, and how much faster.

200 real utterances of `speechocean762` (test part), answered in characters by greedy search and with four beams. The
model is an adapter of the embedded base with random numbers: what it says is long and means nothing, and the bases are
the real ones. Where the tokens differ, the two log-probabilities are compared: near-ties are counted.

    OMP_NUM_THREADS=1 python benchmarks/cached_decoding.py --data-root DATA
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from speechprompt_hf import DEFAULT_BASE, UNIT_MBART_BASE, SpeechPromptForSequenceGeneration, SpeechUnitProcessor
from speechprompt_hf.core.files import write_text
from speechprompt_hf.data.collators import UnitCollator
from speechprompt_hf.processors import build_output_tokenizer
from speechprompt_hf.tasks import speech_recognition

BASES = {"GSLM": DEFAULT_BASE, "Unit mBART": UNIT_MBART_BASE}
NUM_UTTERANCES = 200
BATCH_SIZE = 100
NEAR = 1e-6


def read_rows(data_root: Path, number: int) -> tuple[list[list[int]], list[str]]:
    """Units of the first utterances, and the texts of all."""
    rows = pq.read_table(data_root / "speechocean762" / "test.parquet", columns=["audio", "text"]).to_pylist()
    audio = [row["audio"]["bytes"] if isinstance(row["audio"], dict) else row["audio"] for row in rows[:number]]
    sequences = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE).encode_units(audio)
    texts = [speech_recognition.normalize(row["text"]) for row in rows]
    return [sequence.units.tolist() for sequence in sequences], texts


def make_model(base: str, texts: list[str]) -> SpeechPromptForSequenceGeneration:
    """An adapter with random numbers that tells utterances apart."""
    model = SpeechPromptForSequenceGeneration.from_base(
        base, build_output_tokenizer(texts), num_virtual_tokens=180, seed=0
    )
    with torch.no_grad():
        assert model.verbalizer.weight is not None
        model.verbalizer.weight.mul_(20.0)
    return model.eval()


def answer(
    model: Any, units: list[list[int]], options: dict[str, Any], *, batch_size: int, use_cache: bool
) -> tuple[list[Tensor], float]:
    """Tokens of each utterance, without padding, and seconds."""
    collator = UnitCollator(model.vocabulary)
    start, said = time.perf_counter(), []
    for first in range(0, len(units), batch_size):
        batch = collator([{"units": row} for row in units[first : first + batch_size]])
        said += list(model.generate(**batch, use_cache=use_cache, **options))
    return [row[row != model.generation_config.pad_token_id] for row in said], time.perf_counter() - start


@torch.no_grad()
def log_probability(model: Any, units: list[int], tokens: Tensor) -> float:
    """Of a sequence after an utterance, in one pass."""
    batch = UnitCollator(model.vocabulary)([{"units": units}])
    return -float(model(**batch, labels=tokens[None, 1:]).loss) * (len(tokens) - 1)


def compare(model: Any, units: list[list[int]], options: dict[str, Any]) -> dict[str, Any]:
    """Differences, near-ties and the ratio of times."""
    cached, fast = answer(model, units, options, batch_size=BATCH_SIZE, use_cache=True)
    plain, slow = answer(model, units, options, batch_size=1, use_cache=False)
    near = different = 0
    for row, one, other in zip(units, cached, plain, strict=True):
        if torch.equal(one, other):
            continue
        values = [log_probability(model, row, tokens) for tokens in (one, other)]
        is_near = abs(values[0] - values[1]) <= NEAR * abs(values[1])
        near, different = near + is_near, different + (not is_near)
    return {"near": near, "different": different, "fast": fast, "slow": slow}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--utterances", type=int, default=NUM_UTTERANCES)
    parser.add_argument("--tokens", type=int, default=60, help="said after each utterance at most")
    parser.add_argument("--only", default="", help="a part of the name of the base")
    arguments = parser.parse_args()
    units, texts = read_rows(arguments.data_root, arguments.utterances)
    lines = [
        "| base | search | utterances | the same tokens | near-ties | different | batched, cached | single, uncached "
        "| faster |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, base in BASES.items():
        if arguments.only not in name:
            continue
        model = make_model(base, texts)
        for search, options in (("greedy", {}), ("4 beams", {"num_beams": 4})):
            found = compare(model, units, {**options, "max_new_tokens": arguments.tokens})
            same = len(units) - found["near"] - found["different"]
            lines.append(
                f"| {name} | {search} | {len(units)} | {same} | {found['near']} | {found['different']} "
                f"| {found['fast']:.1f} s | {found['slow']:.1f} s | {found['slow'] / found['fast']:.1f} × |"
            )
            print(lines[-1], flush=True)
            write_text(arguments.output / "cached_decoding.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
