"""Decoding labels: a pass over the source and a cache, against upstream's way without a cache.

Upstream (SpeechPrompt v1, v2) forces the source token by token and runs the whole decoder again for every token,
source and labels alike. Here the utterance is read in one pass and each further label costs one cached step. Both
decode the same labels, restricted to known sequences; the language model has the released size and random weights.

    python benchmarks/decoding.py --data DATA/units/fluent_speech_commands/hubert100/test.parquet

Without `--data` the sources are random, of the same mean length.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from random_models import random_language_model
from torch import Tensor

from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.tasks import intent_classification

VOCABULARY = UnitVocabulary.from_num_units(100)


def draw_sources(path: str | None, count: int, seed: int) -> list[list[int]]:
    """Token ids `</s>`, units, `<s>` of intent recordings, real ones or random ones of their mean length."""
    generator = np.random.default_rng(seed)
    if path is None:
        lengths = generator.integers(30, 83, count)
        return [VOCABULARY.input_ids(generator.integers(0, 100, length).tolist()) for length in lengths]
    import pyarrow.parquet as parquet

    rows = parquet.read_table(path, columns=["units"])["units"]
    chosen = generator.choice(len(rows), count, replace=False)
    return [VOCABULARY.input_ids(rows[int(index)].as_py()) for index in chosen]


def make_model(num_labels: int, arguments: argparse.Namespace) -> SpeechPromptForAudioClassification:
    """A deep prompt on a random language model, with one label an utterance or three."""
    model = SpeechPromptForAudioClassification.from_base(
        random_language_model(arguments),
        intent_classification.labels,
        label_sequences=intent_classification.label_sequences if num_labels == 3 else None,
        num_virtual_tokens=6,
        separator_init="normal",
        seed=arguments.seed,
    )
    # A random model says nearly the same of every utterance: let the verbalizer look at the differences only.
    ids, mask = pad(draw_sources(arguments.data, 8, arguments.seed + 1))
    with torch.no_grad():
        states = model.prompt.states(model.lm)  # type: ignore[union-attr]
        logits = model.lm(ids, attention_mask=mask, prompt=states, logits_to_keep=mask.sum(1, keepdim=True) - 1).logits
        mean = torch.nn.functional.normalize(logits[:, 0].mean(0), dim=0)
        weight = model.verbalizer.weight
        weight -= (weight @ mean).unsqueeze(1) * mean  # type: ignore[operator]
    return model


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """`input_ids` and `attention_mask`, padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    return ids, (torch.arange(longest) < torch.tensor([[len(row)] for row in rows])).long()


@torch.no_grad()
def decode_like_upstream(model: SpeechPromptForAudioClassification, rows: list[list[int]]) -> list[int]:
    """Class indices, with the source forced step by step and a full pass over everything at every step."""
    verbalizer = model.verbalizer
    layout = verbalizer.rows
    num_labels = layout.num_positions
    said: list[list[int]] = [[] for _ in rows]
    possible = torch.ones(len(rows), len(layout.row_of_class), dtype=torch.bool)
    tokens = [list(row) for row in rows]
    for length in range(1, max(map(len, rows)) + num_labels):
        # Rows that have all their labels go on to be computed, as in a batched generator.
        ids = torch.tensor([(row + [2] * length)[:length] for row in tokens])
        states = model.prompt.states(model.lm)  # type: ignore[union-attr]
        logits = model.lm(ids, prompt=states, use_cache=False).logits[:, -1]
        for index, source in enumerate(rows):
            position = length - len(source)
            if not 0 <= position < num_labels:
                continue
            scores = verbalizer.scores_at(logits[index], position)
            label_rows = layout.row_of_class[:, position]
            class_scores = scores[label_rows - layout.slices[position].start]
            best = class_scores.masked_fill(~possible[index], -torch.inf).argmax()
            possible[index] &= label_rows == label_rows[best]
            said[index].append(int(label_rows[best]))
            tokens[index].append(int(verbalizer.unit_token_of_row[label_rows[best]]))
    return possible.long().argmax(1).tolist()


def timed(function: Callable[[], Any], repeats: int) -> tuple[Any, np.ndarray]:
    """The result, and the medians of the seconds of the clock and of the processors."""
    seconds = []
    for _ in range(repeats):
        start = np.array([time.perf_counter(), time.process_time()])
        result = function()
        seconds.append(np.array([time.perf_counter(), time.process_time()]) - start)
    return result, np.median(seconds, axis=0)


def measure(num_labels: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds a batch for both ways, and whether they agree."""
    model = make_model(num_labels, arguments)
    sources = draw_sources(arguments.data, arguments.batches * arguments.batch_size, arguments.seed)
    upstream_s, ours_s, exact_s = np.zeros(2), np.zeros(2), np.zeros(2)
    upstream: list[int] = []
    ours: list[int] = []
    warm_ids, warm_mask = pad(sources[:2])
    model.decode(warm_ids, warm_mask, mode="greedy")
    for start in range(0, len(sources), arguments.batch_size):
        rows = sources[start : start + arguments.batch_size]
        ids, mask = pad(rows)
        labels, seconds = timed(lambda ids=ids, mask=mask: model.decode(ids, mask, mode="greedy").tolist(), 3)  # type: ignore[misc]
        ours += labels
        ours_s += seconds
        exact_s += timed(lambda ids=ids, mask=mask: model.decode(ids, mask), 3)[1]  # type: ignore[misc]
        labels, seconds = timed(lambda rows=rows: decode_like_upstream(model, rows), 1)  # type: ignore[misc]
        upstream += labels
        upstream_s += seconds
    return {
        "labels": num_labels,
        "rows": len(sources),
        "mean_units": round(float(np.mean([len(row) - 2 for row in sources])), 1),
        "upstream_s_per_batch": round(float(upstream_s[0]) / arguments.batches, 3),
        "ours_s_per_batch": round(float(ours_s[0]) / arguments.batches, 3),
        "exact_scores_s_per_batch": round(float(exact_s[0]) / arguments.batches, 3),
        "times_faster": round(float(upstream_s[0] / ours_s[0]), 1),
        "times_less_cpu": round(float(upstream_s[1] / ours_s[1]), 1),
        "equal_labels": sum(a == b for a, b in zip(upstream, ours, strict=True)),
        "distinct_labels": len(set(ours)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Parquet file with a column of units")
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = [measure(num_labels, arguments) for num_labels in (1, 3)]
    print(f"{arguments.layers} × {arguments.width}, batch {arguments.batch_size}, {arguments.threads} threads")
    print("labels  upstream s  ours s  exact s  faster  less cpu  equal labels")
    for row in results:
        print(
            f"{row['labels']:>6}  {row['upstream_s_per_batch']:>10}  {row['ours_s_per_batch']:>6}  "
            f"{row['exact_scores_s_per_batch']:>7}  {row['times_faster']:>5}x  {row['times_less_cpu']:>7}x  "
            f"{row['equal_labels']}/{row['rows']}"
        )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as stream:
            json.dump(results, stream, indent=2)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
