"""Many tasks on one base: a batch of mixed tasks against a batch of one task and against a call a row, and memory.

The language model has the released size (12 layers of width 1024, 16 heads, feed-forward 4096) and random weights; the
adapters are deep prompts of five columns with verbalizers of different sizes. All ways see the same 32 rows of 25
units. Two ways that are compared take turns, in changing order, so that other work on the machine meets both; the
first round warms up and is not counted.
Memory is what the process holds more (`RssAnon` of `/proc/self/status`, Linux) with 1,000 adapters loaded than before,
against the bytes of their two tensor files; before each reading the allocator gives back what it has free (glibc's
`malloc_trim`).

    python benchmarks/mixed_batch.py
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_models import random_language_model
from torch import Tensor

from speechprompt_hf.core.files import write_json, write_text
from speechprompt_hf.modeling import GSLMForCausalLM, SpeechPromptForAudioClassification
from speechprompt_hf.modeling.adapter_files import ADAPTER_WEIGHTS, VERBALIZER

BARS = {"mixed_to_one_task": 1.10, "times_faster_than_a_call_a_row": 2.0, "memory_to_files": 1.2, "difference": 1e-4}


def make_base(arguments: argparse.Namespace) -> GSLMForCausalLM:
    """A random language model."""
    return random_language_model(arguments).eval()


def save_adapters(lm: GSLMForCausalLM, root: Path, arguments: argparse.Namespace) -> list[Path]:
    """Folders of adapters with different prompts, separators and numbers of classes."""
    folders = []
    for number in range(arguments.adapters):
        model = SpeechPromptForAudioClassification.from_base(
            lm,
            [f"class {index}" for index in range(10 + number)],
            num_virtual_tokens=arguments.prompt_length,
            readout=arguments.readout,
            separator_init="normal",
            seed=number,
        )
        model.save_pretrained(root / f"task{number}")
        folders.append(root / f"task{number}")
    return folders


def anonymous_bytes() -> int:
    """Bytes of this process that are no file's."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


@torch.no_grad()
def measure_memory(
    model: SpeechPromptForAudioClassification, folders: list[Path], ids: Tensor, count: int
) -> dict[str, Any]:
    """Bytes held for `count` further adapters, and what a mixed batch over 32 of them leaves behind."""
    model(input_ids=ids)
    before, in_files, start = anonymous_bytes(), 0, time.perf_counter()
    names = [f"further {number}" for number in range(count)]
    for number, name in enumerate(names):
        folder = folders[number % len(folders)]
        model.load_adapter(folder, name)
        in_files += sum((folder / file).stat().st_size for file in (ADAPTER_WEIGHTS, VERBALIZER))
    seconds = time.perf_counter() - start
    held = anonymous_bytes() - before
    chosen = [names[index * (count // len(ids))] for index in range(len(ids))]
    model(input_ids=ids, adapter_names=chosen)
    after_a_batch = anonymous_bytes() - before
    for name in names:
        model.delete_adapter(name)
    return {
        "adapters": count,
        "files_mb": round(in_files / 1e6, 1),
        "held_mb": round(held / 1e6, 1),
        "held_to_files": round(held / in_files, 3),
        "after_a_mixed_batch_to_files": round(after_a_batch / in_files, 3),
        "ms_to_load_one": round(1000 * seconds / count, 1),
    }


def measure_times(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds of seconds of the clock and of the processors; all ways run in every round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        order = list(ways.items())
        for name, run in order if number % 2 else reversed(order):
            start, start_processor = time.perf_counter(), time.process_time()
            run()
            if number:
                seconds[name].append((time.perf_counter() - start, time.process_time() - start_processor))
    medians = {name: np.median(np.array(values), axis=0) for name, values in seconds.items()}
    return {
        name: {
            "seconds": round(float(median[0]), 3),
            "processor_seconds": round(float(median[1]), 3),
            "fastest": round(min(values)[0], 3),
            "slowest": round(max(values)[0], 3),
        }
        for (name, values), median in zip(seconds.items(), medians.values(), strict=True)
    }


@torch.no_grad()
def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    lm = make_base(arguments)
    generator = torch.Generator().manual_seed(arguments.seed)
    units = torch.randint(4, lm.config.vocab_size, (arguments.rows, arguments.units), generator=generator)
    ids = torch.cat([torch.full((arguments.rows, 1), 2), units, torch.zeros(arguments.rows, 1, dtype=torch.long)], 1)
    with tempfile.TemporaryDirectory() as root:
        folders = save_adapters(lm, Path(root), arguments)
        model = SpeechPromptForAudioClassification.from_pretrained(folders[0], base=lm)
        tasks = [model.active_adapter]
        for number, folder in enumerate(folders[1:], 1):
            model.load_adapter(folder, f"task{number}")
            tasks.append(f"task{number}")
        memory = measure_memory(model, folders, ids, arguments.loaded)
    names = [tasks[row % len(tasks)] for row in range(arguments.rows)]
    mixed = model(input_ids=ids, adapter_names=names).logits
    largest, spread = 0.0, []
    for row, name in enumerate(names):
        model.set_adapter(name)
        alone = model(input_ids=ids[row : row + 1]).logits[0]
        largest = max(largest, float((mixed[row, : len(alone)] - alone).abs().max()))
        spread.append(float(alone.std()))
    model.set_adapter(tasks[0])
    ways: dict[str, Callable[[], Any]] = {
        "one task, one batch": lambda: model(input_ids=ids),
        f"{len(tasks)} tasks, one batch": lambda: model(input_ids=ids, adapter_names=names),
        f"{len(tasks)} tasks, a call a row": lambda: [
            model(input_ids=ids[row : row + 1], adapter_names=[name]) for row, name in enumerate(names)
        ],
    }
    load_before = os.getloadavg()
    one_task, mixed_tasks, call_a_row = ways
    pair = measure_times({name: ways[name] for name in (one_task, mixed_tasks)}, arguments.rounds)
    one, batch = pair.values()
    by_row = measure_times({name: ways[name] for name in (mixed_tasks, call_a_row)}, arguments.rounds)
    batch_again, calls = by_row.values()
    times = {**pair, f"{mixed_tasks}, again": batch_again, call_a_row: calls}
    return {
        "settings": {name: value for name, value in vars(arguments).items() if name != "output"},
        "machine": {"processor": platform.machine(), "load_before": load_before, "load_after": os.getloadavg()},
        "torch": torch.__version__,
        "times": times,
        "mixed_to_one_task": round(batch["seconds"] / one["seconds"], 3),
        "mixed_to_one_task_processor": round(batch["processor_seconds"] / one["processor_seconds"], 3),
        "times_faster_than_a_call_a_row": round(calls["seconds"] / batch_again["seconds"], 2),
        "times_less_processor_than_a_call_a_row": round(
            calls["processor_seconds"] / batch_again["processor_seconds"], 2
        ),
        "difference": largest,
        "deviation_of_scores": round(float(np.mean(spread)), 3),
        "memory": memory,
    }


def markdown(result: dict[str, Any]) -> str:
    """The results as a page."""
    settings, memory = result["settings"], result["memory"]
    loads = "; ".join(
        f"{result['machine'][key][0]:.1f} {when}" for key, when in (("load_before", "before"), ("load_after", "after"))
    )
    lines = [
        "# Many tasks in one batch",
        "",
        f"Made by `python benchmarks/mixed_batch.py`: language model of {settings['layers']} layers × "
        f"{settings['width']} with random weights, {settings['adapters']} deep prompts of "
        f"{settings['prompt_length']} columns, readout `{settings['readout']}`, {settings['rows']} rows of "
        f"{settings['units']} units, {settings['threads']} threads of a CPU, torch {result['torch']}, medians of "
        f"{settings['rounds']} interleaved rounds. Load of the machine (1 minute, this run included): {loads}.",
        "",
        "| way | seconds | of the processors | fastest, slowest |",
        "|---|---|---|---|",
    ]
    for name, row in result["times"].items():
        lines.append(
            f"| {name} | {row['seconds']} | {row['processor_seconds']} | {row['fastest']}, {row['slowest']} |"
        )
    lines += [
        "",
        "| figure | measured | bar |",
        "|---|---|---|",
        f"| mixed batch to a batch of one task | {result['mixed_to_one_task']} "
        f"({result['mixed_to_one_task_processor']} of processor time) | at most {BARS['mixed_to_one_task']} |",
        f"| mixed batch faster than a call a row | {result['times_faster_than_a_call_a_row']} times "
        f"({result['times_less_processor_than_a_call_a_row']} of processor time) | at least "
        f"{BARS['times_faster_than_a_call_a_row']} |",
        f"| largest difference of a score from the task alone | {result['difference']:.1e} (deviation of a row's "
        f"scores {result['deviation_of_scores']}) | at most {BARS['difference']} |",
        f"| memory of {memory['adapters']:,} adapters ({memory['held_mb']} MB) to their tensor files "
        f"({memory['files_mb']} MB) | {memory['held_to_files']} | at most {BARS['memory_to_files']} |",
        f"| the same after a mixed batch of {settings['rows']} of them | {memory['after_a_mixed_batch_to_files']} | "
        f"at most {BARS['memory_to_files']} |",
        "",
        f"Loading an adapter took {memory['ms_to_load_one']} ms.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--prompt-length", type=int, default=5)
    parser.add_argument("--readout", choices=["separator", "pooled"], default="pooled")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--units", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--loaded", type=int, default=1000, help="adapters in memory for the figure of memory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output / "mixed_batch.json", result)
    write_text(arguments.output / "mixed_batch.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
