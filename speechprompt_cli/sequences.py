"""What `train`, `evaluate` and `predict` do for tasks whose answer is a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from .console import print_line

__all__ = [
    "SEQUENCE_TASK_NAMES",
    "check_options",
    "given_settings",
    "measure_texts",
    "print_sequence_report",
    "says_sequences",
    "train_text_task",
]

#: The same names as `speechprompt_hf.tasks.SEQUENCE_TASKS`, repeated so that help needs no import.
SEQUENCE_TASK_NAMES = ("speech_recognition", "phone_recognition", "slot_filling", "speech_translation")

_FOR_LABELS = ("label_column", "verbalizer_hidden_size", "readout", "label_smoothing", "baseline")
_FOR_TEXTS = ("text_column", "tokens", "normalization", "max_tokens", "beams")
# Name of an option where it is not the setting's.
_SETTINGS = {"epochs": "num_epochs", "beams": "num_beams"}
_SHARED = (
    "prompt",
    "num_virtual_tokens",
    "prompt_layers",
    "prompt_init",
    "verbalizer",
    "epochs",
    "patience",
    "batch_size",
    "bf16",
    "beams",
)
_NAMES = {
    "wer": "word error rate",
    "cer": "character error rate",
    "per": "phone error rate",
    "uer": "unit error rate",
    "bleu": "BLEU",
    "chrf": "chrF",
    "slot_f1": "F1 of slots",
    "slot_value_cer": "character error rate of slot values",
}
_SHOWN_EXAMPLES = 3


def check_options(given: Sequence[str], *, is_text: bool, of: str, also_for_texts: Sequence[str] = ()) -> None:
    """Refuse options of the other kind of task.

    Args:
        given (`Sequence[str]`): parameters of the options that stood on the command line.
        is_text (`bool`): whether the answer is a text.
        of (`str`): what answers.
        also_for_texts (`Sequence[str]`): further parameters that only texts have.

    Raises:
        typer.BadParameter: an option has nothing to do with this kind of task.
    """
    wrong = [name for name in (_FOR_LABELS if is_text else (*_FOR_TEXTS, *also_for_texts)) if name in given]
    if wrong:
        kinds = ("a text", "labels") if is_text else ("a label", "texts")
        raise typer.BadParameter(
            f"the answer of {of} is {kinds[0]}: this option is for {kinds[1]}",
            param_hint=f"--{wrong[0].replace('_', '-')}",
        )


def measure_texts(
    adapter: str, dataset: str, task: str | None, text_column: str | None, beams: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """A report of an adapter that says texts.

    Args:
        adapter (`str`): folder or Hub id.
        dataset (`str`): of `--dataset`.
        task (`str`, *optional*): of `--task`.
        text_column (`str`, *optional*): of `--text-column`.
        beams (`int`): of `--beams`.
        options (`Mapping`): further arguments of `evaluate_sequences`.
    """
    from speechprompt_hf.evaluation import evaluate_sequences
    from speechprompt_hf.tasks import sequence_task_by_name

    return evaluate_sequences(
        adapter,
        dataset,
        task=None if task is None else sequence_task_by_name(task),
        text_column=text_columns(text_column),
        num_beams=beams,
        **options,
    )


def train_text_task(
    dataset: str,
    output: Path,
    options: Mapping[str, Any],
    given: Sequence[str],
) -> Any:
    """Train a ready-made task whose answer is a text.

    Args:
        dataset (`str`): of `--dataset`.
        output (`Path`): of `--output`.
        options (`Mapping`): all parameters of `speechprompt train`.
        given (`Sequence[str]`): those that stood on the command line; the others are the settings' own.

    Returns:
        `SequenceExperiment`.
    """
    from dataclasses import replace

    from speechprompt_hf.tasks import sequence_task_by_name
    from speechprompt_hf.training import SequenceTrainingSettings, run_sequence_experiment

    settings = given_settings(options, given)
    method = options["method"]
    changes = {name: options[name] for name in ("tokens", "normalization", "max_tokens") if options[name] is not None}
    return run_sequence_experiment(
        dataset,
        output,
        task=replace(sequence_task_by_name(options["task"]), **changes),
        base=options["base"],
        text_column=text_columns(options["text_column"]),
        speaker_column=options["speaker_column"],
        settings=SequenceTrainingSettings(**settings),
        method=method,
        seed=options["seed"],
        num_copies=options["copies"],
        resume=options["resume"],
    )


def given_settings(options: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Fields of `SequenceTrainingSettings` that stood on the command line.

    Args:
        options (`Mapping`): all parameters of `speechprompt train`.
        given (`Sequence[str]`): those that stood on the command line.
    """
    settings = {_SETTINGS.get(name, name): options[name] for name in _SHARED if name in given}
    if options["learning_rate"] is not None:
        finetunes = options["method"] == "finetune"
        settings["finetune_learning_rate" if finetunes else "learning_rate"] = options["learning_rate"]
    return settings


def text_columns(given: str | None) -> list[str] | None:
    """The columns named by `--text-column`."""
    return [name.strip() for name in given.split(",")] if given else None


def says_sequences(adapter: str) -> bool:
    """Whether an adapter says texts rather than labels."""
    from speechprompt_hf.modeling.adapter_files import pinned
    from speechprompt_hf.modeling.adapter_reading import read_config

    # Asked for first, a repository that is not there is named as such.
    return bool(read_config(adapter, **pinned(adapter, {})).generates_sequences)


def print_sequence_report(report: Mapping[str, Any], *, listed: str = "the report lists them") -> None:
    """Every metric with its interval, beside the baseline; examples; notes.

    Args:
        report (`Mapping`): of a task whose answer is a text.
        listed (`str`, *optional*): where a reader finds all rows that were left out.
    """
    from .reports import print_notes, whose_speakers

    rows = report["num_rows"].get("test", sum(report["num_rows"].values()))
    what = "rows of units" if report.get("kind") == "units" else "recordings"
    for name, scores in report["scores"].items():
        better = "lower" if scores["lower_is_better"] else "higher"
        digits = 1 if name in ("bleu", "chrf") else 3
        print_line(
            f"{_NAMES.get(name, name)}  {scores['value']:.{digits}f}  (95 % interval {scores['low']:.{digits}f} to "
            f"{scores['high']:.{digits}f}; {better} is better; {rows} {what}{whose_speakers(report)})"
        )
    for baseline in report["baselines"].values():
        where = "in training" if baseline["counted_on"] == "training rows" else "of these rows"
        values = ", ".join(f"{_NAMES.get(name, name)} {value:.3f}" for name, value in baseline["scores"].items())
        print_line(f"for comparison, always the most frequent text {where} ({_short(baseline['text'])}): {values}")
    for example in report["examples"][:_SHOWN_EXAMPLES]:
        print_line(f"reference  {_short(example['reference'])}")
        print_line(f"said       {_short(example['said'])}")
    print_notes(report, listed=listed)


def _short(text: str, longest: int = 160) -> str:
    return text if len(text) <= longest else f"{text[: longest - 2]} …"
