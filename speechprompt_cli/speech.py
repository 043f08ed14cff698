"""What `train` does for tasks whose answer is speech, and their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .sequences import given_settings

__all__ = [
    "SPEECH_TASK_NAMES",
    "DamageRateOption",
    "PromptSecondsOption",
    "SourceColumnOption",
    "TargetBaseOption",
    "TargetColumnOption",
    "VocoderNameOption",
    "answers_with_speech",
    "check_speech_options",
    "measure_speech",
    "train_speech_task",
]

#: The same names as `speechprompt_hf.tasks.SPEECH_TASKS`, repeated so that help needs no import.
SPEECH_TASK_NAMES = ("speech_continuation", "unit_correction", "unit_inpainting", "speech_translation_to_speech")

SourceColumnOption = Annotated[
    str | None,
    typer.Option(
        "--source-column",
        help="Of tasks of speech: the column of what is heard; audio or units by default, source for a translation.",
        show_default=False,
    ),
]
TargetColumnOption = Annotated[
    str | None,
    typer.Option(
        "--target-column",
        help="Of speech_translation_to_speech: the column of what is to be said, target by default.",
        show_default=False,
    ),
]
TargetBaseOption = Annotated[
    str | None,
    typer.Option(
        "--target-base",
        help="Of speech_translation_to_speech: the base whose units are said, where they are not those that are read.",
        show_default=False,
    ),
]
VocoderNameOption = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="Of tasks of speech: the vocoder of the units, a folder or Hub id, which the adapter shall name.",
        show_default=False,
    ),
]
PromptSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--prompt-seconds",
        min=0.01,
        help="Of speech_continuation: how much is heard of a recording, but never more than half.",
        show_default="3",
    ),
]
DamageRateOption = Annotated[
    float | None,
    typer.Option(
        "--damage-rate",
        min=0.0,
        max=1.0,
        help="Of unit_correction and unit_inpainting: which share of the units is damaged.",
        show_default="0.2; 0.3 of unit_inpainting",
    ),
]

_FOR_SPEECH = ("source_column", "target_column", "target_base", "vocoder", "prompt_seconds", "damage_rate")
_OF_TEXTS = ("text_column", "tokens", "normalization")


def check_speech_options(given: Sequence[str], *, is_speech: bool, of: str, further: Sequence[str] = ()) -> None:
    """Refuse options of speech for other tasks, and those of texts for speech.

    Args:
        given (`Sequence[str]`): parameters of the options that stood on the command line.
        is_speech (`bool`): whether the answer is speech.
        of (`str`): what answers.
        further (`Sequence[str]`): more parameters that only texts have.

    Raises:
        typer.BadParameter: an option has nothing to do with this kind of task.
    """
    wrong = [name for name in ((*_OF_TEXTS, *further) if is_speech else _FOR_SPEECH) if name in given]
    if wrong:
        what = "speech: this option is for texts" if is_speech else "no speech: this option is for speech"
        raise typer.BadParameter(f"the answer of {of} is {what}", param_hint=f"--{wrong[0].replace('_', '-')}")


def train_speech_task(dataset: str, output: Path, options: Mapping[str, Any], given: Sequence[str]) -> Any:
    """Train a ready-made task whose answer is speech.

    Args:
        dataset (`str`): of `--dataset`.
        output (`Path`): of `--output`.
        options (`Mapping`): all parameters of `speechprompt train`.
        given (`Sequence[str]`): those that stood on the command line; the others are the settings' own.

    Returns:
        `SequenceExperiment`.
    """
    from dataclasses import replace

    from speechprompt_hf.tasks import speech_task_by_name
    from speechprompt_hf.training import SequenceTrainingSettings, run_speech_experiment

    fields = ("source_column", "target_column", "prompt_seconds", "damage_rate", "max_tokens")
    changes = {name: options[name] for name in fields if options[name] is not None}
    return run_speech_experiment(
        dataset,
        output,
        task=replace(speech_task_by_name(options["task"]), **changes),
        base=options["base"],
        target_base=options["target_base"],
        vocoder=options["vocoder"],
        speaker_column=options["speaker_column"],
        settings=SequenceTrainingSettings(**given_settings(options, given)),
        method=options["method"],
        seed=options["seed"],
        num_copies=options["copies"],
        resume=options["resume"],
    )


def answers_with_speech(adapter: str) -> bool:
    """Whether an adapter says units of speech."""
    from speechprompt_hf.modeling.adapter_files import pinned
    from speechprompt_hf.modeling.adapter_reading import read_config

    return bool(read_config(adapter, **pinned(adapter, {})).generates_speech)


def measure_speech(
    adapter: str, dataset: str, beams: int, given: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """A report of an adapter that answers with speech.

    Args:
        adapter (`str`): folder or Hub id.
        dataset (`str`): of `--dataset`.
        beams (`int`): of `--beams`.
        given (`Sequence[str]`): parameters of the options that stood on the command line.
        options (`Mapping`): further arguments of `evaluate_speech`.

    Raises:
        typer.BadParameter: an option of texts was given.
    """
    from speechprompt_hf.evaluation import evaluate_speech

    check_speech_options(given, is_speech=True, of=adapter, further=("task",))
    return evaluate_speech(adapter, dataset, num_beams=beams, **options)
