"""A training step: ours against stock PEFT prefix tuning on XGLM with a loss at every position.

Both train the same deep prompt on the same frozen random weights of the released size, over the same rows: intent
recordings drawn as an epoch draws them, three labels each. Stock pads batches as they come and computes logits and
loss at every position; ours groups the rows by length and computes the last layer, logits and loss where labels stand.
The learning rate is zero, so that the loss of each row can be compared. Each way runs in a process of its own for its
peak memory.

    python benchmarks/training_step.py --data DATA/units/fluent_speech_commands/hubert100/train.parquet

Without `--data` the sources are random, of similar lengths.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from random_models import random_language_model
from torch import Tensor

from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.tasks import intent_classification

VOCABULARY = UnitVocabulary.from_num_units(100)
NUM_VIRTUAL_TOKENS = 5


def draw_rows(arguments: argparse.Namespace) -> list[tuple[list[int], int]]:
    """Token ids and class index of rows, in the order of a shuffled epoch."""
    generator = np.random.default_rng(arguments.seed)
    count = arguments.batches * arguments.batch_size
    if arguments.data is None:
        lengths = np.clip(generator.gamma(7.0, 8.0, count).astype(int), 8, 218)
        sources = [generator.integers(0, 100, length).tolist() for length in lengths]
        classes = generator.integers(0, intent_classification.num_labels, count).tolist()
    else:
        import pyarrow.parquet as parquet

        table = parquet.read_table(arguments.data)
        chosen = generator.permutation(len(table))[:count].tolist()
        sources = [table["units"][index].as_py() for index in chosen]
        columns = intent_classification.label_columns
        labels = [" ".join(str(table[column][index].as_py()) for column in columns) for index in chosen]
        classes = [intent_classification.index_of(label) for label in labels]
    return [(VOCABULARY.input_ids(source), label) for source, label in zip(sources, classes, strict=True)]


def make_model(arguments: argparse.Namespace) -> SpeechPromptForAudioClassification:
    """The same model in every process."""
    return SpeechPromptForAudioClassification.from_base(
        random_language_model(arguments),
        intent_classification.labels,
        label_sequences=intent_classification.label_sequences,
        num_virtual_tokens=NUM_VIRTUAL_TOKENS,
        verbalizer="random",
        prompt_dropout=0.0,
        seed=arguments.seed,
    )


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """`input_ids` and `attention_mask`, padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    return ids, (torch.arange(longest) < torch.tensor([[len(row)] for row in rows])).long()


def stock_model(model: SpeechPromptForAudioClassification) -> Any:
    """XGLM with the same weights under PEFT's prefix tuning with the same table."""
    from peft import PrefixTuningConfig, get_peft_model
    from transformers import XGLMConfig, XGLMForCausalLM

    config = model.lm.config
    xglm = XGLMForCausalLM(
        XGLMConfig(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            ffn_dim=config.intermediate_size,
            num_layers=config.num_hidden_layers,
            attention_heads=config.num_attention_heads,
            activation_function="relu",
            max_position_embeddings=config.max_position_embeddings,
            dropout=0.0,
            attention_dropout=0.0,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
        )
    )
    weights = {name: tensor for name, tensor in model.lm.state_dict().items() if ".separator." not in name}
    xglm.load_state_dict(weights)
    peft_model = get_peft_model(
        xglm,
        PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=NUM_VIRTUAL_TOKENS,
            num_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            token_dim=config.hidden_size,
            num_transformer_submodules=1,
        ),
    )
    with torch.no_grad():
        peft_model.prompt_encoder["default"].embedding.weight.copy_(model.prompt.table(model.lm))  # type: ignore[union-attr]
    return peft_model.train()


def label_losses(model: SpeechPromptForAudioClassification, logits: Tensor, ids: list[int], label: int) -> float:
    """The loss of one row from logits at every position of `</s>`, units, `<s>`, labels."""
    rows = model.verbalizer.rows
    total = 0.0
    for position, row in enumerate(rows.row_of_class[label].tolist()):
        scores = model.verbalizer.scores_at(logits[len(ids) - 1 + position], position)
        total -= float(scores.log_softmax(-1)[row - rows.slices[position].start])
    return total


def run_stock(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stock steps: batches as drawn, logits and loss at every position."""
    model, rows = make_model(arguments), draw_rows(arguments)
    peft_model = stock_model(model)
    optimizer = torch.optim.Adam([p for p in peft_model.parameters() if p.requires_grad], lr=0.0)
    tokens_of_class = model.verbalizer.unit_token_of_row[model.verbalizer.rows.row_of_class].tolist()
    losses, seconds, cpu_seconds = [], 0.0, 0.0
    start_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(0, len(rows), arguments.batch_size):
        batch = rows[start : start + arguments.batch_size]
        ids, mask = pad([[*source, *tokens_of_class[label], 2] for source, label in batch])
        begin, cpu_begin = time.perf_counter(), time.process_time()
        # PEFT adds P to the positions; the paper's prompts do not shift tokens.
        positions = torch.arange(ids.shape[1]).expand(len(ids), -1) - NUM_VIRTUAL_TOKENS
        output = peft_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, labels=ids.masked_fill(mask == 0, -100)
        )
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - begin
        cpu_seconds += time.process_time() - cpu_begin
        with torch.no_grad():
            losses += [
                label_losses(model, logits, *row) for logits, row in zip(output.logits.detach(), batch, strict=True)
            ]
    return finish(arguments, rows, list(range(len(rows))), losses, (seconds, cpu_seconds), start_memory)


def run_ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Our steps: rows grouped by length, the last layer, logits and loss where labels stand."""
    model, rows = make_model(arguments), draw_rows(arguments)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.0)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    losses, seconds, cpu_seconds = [], 0.0, 0.0
    start_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batches = [order[start : start + arguments.batch_size] for start in range(0, len(order), arguments.batch_size)]
    # The longest first: a later batch then finds its memory already there.
    batches.reverse()
    for batch in batches:
        ids, mask = pad([rows[index][0] for index in batch])
        labels = torch.tensor([rows[index][1] for index in batch])
        model.train()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - begin
        cpu_seconds += time.process_time() - cpu_begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.eval()
    with torch.no_grad():
        for batch in batches:
            ids, mask = pad([rows[index][0] for index in batch])
            scores = model(input_ids=ids, attention_mask=mask).logits
            losses += [-float(row[rows[index][1]]) for row, index in zip(scores, batch, strict=True)]
    return finish(
        arguments,
        rows,
        [index for batch in batches for index in batch],
        losses,
        (seconds, cpu_seconds),
        start_memory,
        peak,
    )


def finish(
    arguments: argparse.Namespace,
    rows: list[tuple[list[int], int]],
    order: list[int],
    losses: list[float],
    seconds: tuple[float, float],
    start_memory: int,
    peak: int | None = None,
) -> dict[str, Any]:
    """Figures of one way; `losses` and lengths in `order`, `seconds` of the clock and of the processors."""
    lengths = [len(rows[index][0]) for index in order]
    size = arguments.batch_size
    padded = sum(max(lengths[start : start + size]) * size for start in range(0, len(lengths), size))
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    by_row = dict(zip(order, losses, strict=True))
    return {
        "rows_per_s": round(len(rows) / seconds[0], 3),
        "rows_per_cpu_s": round(len(rows) / seconds[1], 3),
        "peak_mib": round(peak / 1024),
        "step_mib": round((peak - start_memory) / 1024),
        "padding": round(padded / sum(lengths), 2),
        "losses": [by_row[index] for index in range(len(rows))],
    }


def run_in_process(way: str) -> dict[str, Any]:
    """Figures of one way, from a fresh process."""
    output = subprocess.run([sys.executable, *sys.argv, "--way", way], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(output.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Parquet file with units and the three label columns")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="also write the figures here")
    parser.add_argument("--way", choices=["stock", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.way:
        print(json.dumps(run_stock(arguments) if arguments.way == "stock" else run_ours(arguments)))
        return
    results = {way: run_in_process(way) for way in ("stock", "ours")}
    losses = [results[way].pop("losses") for way in ("stock", "ours")]
    results["comparison"] = {
        "times_faster": round(results["ours"]["rows_per_s"] / results["stock"]["rows_per_s"], 2),
        "times_less_cpu": round(results["ours"]["rows_per_cpu_s"] / results["stock"]["rows_per_cpu_s"], 2),
        "rows": len(losses[0]),
        "mean_loss": round(float(np.mean(losses[0])), 4),
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*losses, strict=True)),
    }
    print(f"{arguments.layers} × {arguments.width}, {arguments.batches} batches of {arguments.batch_size}")
    print("way    rows/s  rows/cpu s  peak MiB  of it steps  padding")
    for way in ("stock", "ours"):
        row = results[way]
        print(
            f"{way:<6} {row['rows_per_s']:>6}  {row['rows_per_cpu_s']:>10}  {row['peak_mib']:>8}  "
            f"{row['step_mib']:>11}  {row['padding']:>6}x"
        )
    print(
        f"{results['comparison']['times_faster']} times faster ({results['comparison']['times_less_cpu']} times less "
        "processor time, which other work on the machine does not disturb), largest difference of a row's loss "
        f"{results['comparison']['largest_loss_difference']:.1e} (mean loss {results['comparison']['mean_loss']})"
    )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as stream:
            json.dump(results, stream, indent=2)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
