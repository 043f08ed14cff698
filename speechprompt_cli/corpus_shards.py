"""`speechprompt units` on a large corpus: one of several processes, what it says meanwhile and at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import note
from .corpora import ALL, device_or_best, read_tables
from .options import label_columns

if TYPE_CHECKING:
    from speechprompt_hf.data.corpus_run import Corpus, CorpusProgress
    from speechprompt_hf.data.corpus_shards import World

__all__ = ["device_of", "make_shards", "processes_of_this_run"]

# Of the lines about progress where no terminal shows a bar.
_SECONDS_BETWEEN_LINES = 60.0


def processes_of_this_run() -> World:
    """The processes that torchrun or accelerate started, or this one alone.

    Raises:
        ConfigurationError: the environment contradicts itself.
    """
    from speechprompt_hf.data.corpus_shards import World

    return World.from_environment(os.environ)


def device_of(device: str | None, world: World) -> str:
    """The device of one process: the GPUs of its machine in turn.

    Args:
        device (`str`, *optional*): what `--device` says; a number in it holds for all processes.
        world (`World`): the processes.

    Raises:
        ConfigurationError: this machine has no such device.
    """
    import torch

    best = device_or_best(device)
    count = torch.cuda.device_count() if best == "cuda" else 0
    return f"cuda:{world.local_rank % count}" if count and world.local_rank is not None else best


def make_shards(
    dataset: str,
    output: Path,
    base: str,
    world: World,
    shard_rows: int | None,
    columns: tuple[str | None, str | None],
    device: str | None,
    *,
    streaming: bool,
) -> dict[str, Any] | None:
    """Make the shards of this process.

    Args:
        dataset (`str`): what `--dataset` says.
        output (`Path`): folder of the shards.
        base (`str`): what makes the units.
        world (`World`): the processes.
        shard_rows (`int`, *optional*): recordings of a shard.
        columns (`tuple`): what `--label-column` and `--speaker-column` say.
        device (`str`, *optional*): what `--device` says.
        streaming (`bool`): whether the corpus is read as it comes.

    Returns:
        `dict | None`: the summary of the corpus, if no shard is missing now.

    Raises:
        SpeechPromptError: see `run_corpus`.
    """
    from speechprompt_hf import SpeechUnitProcessor
    from speechprompt_hf.data.corpus_run import run_corpus
    from speechprompt_hf.data.corpus_shards import DEFAULT_SHARD_ROWS

    corpus = _open(dataset, shard_rows or DEFAULT_SHARD_ROWS, columns, streaming=streaming)
    processor = SpeechUnitProcessor.from_pretrained(base).to(device_of(device, world))
    who = f"process {world.rank} of {world.size}: " if world.size > 1 else ""
    num_rows = corpus.num_rows(world)
    note(f"{who}{'recordings of a stream' if num_rows is None else f'{num_rows} recordings'}")
    with _shown(num_rows, show=world.rank == 0) as show:
        progress, summary = run_corpus(
            corpus, processor, output, base=base, world=world, on_progress=show, on_note=note
        )
    note(f"{who}{_line(progress)}; {progress.found} shards were there")
    if summary is None:
        note(f"{who}other processes have shards to make; start the command again if one of them was stopped")
    return summary


def _open(dataset: str, shard_rows: int, columns: tuple[str | None, str | None], *, streaming: bool) -> Corpus:
    from speechprompt_hf.data.corpus_opening import open_streams
    from speechprompt_hf.data.corpus_stream import Labelling, StreamCorpus
    from speechprompt_hf.data.corpus_tables import TableCorpus

    streams = open_streams(dataset) if streaming else None
    if streams is None:
        return TableCorpus(read_tables(dataset, *columns), shard_rows)
    labels = label_columns(columns[0])
    labelling = Labelling(tuple(labels) if labels else None, columns[1])
    named = {ALL if name == "pool" else name: stream for name, stream in streams.items()}
    return StreamCorpus(named, shard_rows, labelling)


def _line(progress: CorpusProgress) -> str:
    sound, work = _duration(progress.seconds), _duration(progress.elapsed)
    made = f"{progress.shards} shards made, {progress.recordings} recordings"
    return f"{made}, {sound} of sound in {work}: {progress.hours_per_hour:.0f} hours per hour"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.1f} s"


@contextmanager
def _shown(num_rows: int | None, *, show: bool) -> Iterator[Callable[[CorpusProgress], None] | None]:
    """Progress of the first process: a bar on a terminal, a line a minute elsewhere."""
    if not show:
        yield None
    elif sys.stderr.isatty():
        with _bar(num_rows) as update:
            yield update
    else:
        last = time.monotonic()

        def tell(progress: CorpusProgress) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                note(_line(progress))

        yield tell


@contextmanager
def _bar(num_rows: int | None) -> Iterator[Callable[[CorpusProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("units", total=num_rows)

        def update(progress: CorpusProgress) -> None:
            text = f"{progress.seconds / 3600:.2f} h, {progress.hours_per_hour:.0f} hours per hour"
            bar.update(task, completed=progress.recordings, description=text)

        yield update
