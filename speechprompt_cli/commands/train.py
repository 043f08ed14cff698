"""`speechprompt train`: labelled recordings or units to an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..console import note, print_json, print_line, working
from ..options import (
    DEFAULT_BASE,
    BaseOption,
    BeamsOption,
    DatasetOption,
    JsonOption,
    LabelColumnOption,
    OutputOption,
    SeedOption,
    SpeakerColumnOption,
    TextColumnOption,
    given_options,
    label_columns,
)
from ..reports import print_report
from ..sequences import SEQUENCE_TASK_NAMES, check_options, print_sequence_report, train_text_task
from ..speech import (
    SPEECH_TASK_NAMES,
    DamageRateOption,
    PromptSecondsOption,
    SourceColumnOption,
    TargetBaseOption,
    TargetColumnOption,
    VocoderNameOption,
    check_speech_options,
    train_speech_task,
)


def run(
    context: typer.Context,
    dataset: DatasetOption,
    output: OutputOption,
    base: BaseOption = DEFAULT_BASE,
    task: Annotated[
        Literal[
            "keyword_spotting",
            "intent_classification",
            "speech_recognition",
            "phone_recognition",
            "slot_filling",
            "speech_translation",
            "speech_continuation",
            "unit_correction",
            "unit_inpainting",
            "speech_translation_to_speech",
        ]
        | None,
        typer.Option(
            help="A ready-made task; without it the labels of the data are the task. Recognition, slots and "
            "speech_translation have texts instead of labels; the last four need no labels and answer with speech.",
            show_default=False,
        ),
    ] = None,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    tokens: Annotated[
        Literal["characters", "words", "subwords"] | None,
        typer.Option(
            help="Of what a text is made. By default characters for speech_recognition and slot_filling, words "
            "(between blanks) for phone_recognition, subwords for speech_translation.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Of texts: the most tokens of one; longer ones are left out.", show_default="256"),
    ] = None,
    normalization: Annotated[
        Literal["none", "lower", "phones"] | None,
        typer.Option(
            help="How texts are made comparable. none; lower: lower case without punctuation, the default of "
            "speech_recognition and slot_filling; phones: without stress digits and word bars, that of "
            "phone_recognition.",
            show_default=False,
        ),
    ] = None,
    speaker_column: SpeakerColumnOption = None,
    method: Annotated[
        Literal["prompt", "finetune", "probe"],
        typer.Option(
            help="prompt: small, the base stays frozen. finetune: the whole language model, for comparison. "
            "probe: only a linear layer on the frozen model's states, for comparison."
        ),
    ] = "prompt",
    prompt: Annotated[
        Literal["deep", "input"],
        typer.Option(help="deep: vectors in every layer. input: vectors before the first unit only."),
    ] = "deep",
    num_virtual_tokens: Annotated[
        int, typer.Option(min=1, help="How many prompt vectors.", show_default="5; 180 for texts")
    ] = 5,
    prompt_layers: Annotated[
        Literal["all", "lower", "upper", "encoder", "decoder"],
        typer.Option(
            help="Where a deep prompt is trained. lower, upper: half of the layers. encoder, decoder: one side of a "
            "Unit mBART."
        ),
    ] = "all",
    prompt_init: Annotated[
        Literal["normal", "scaled", "zeros", "vocabulary", "frequent_units", "class_means"],
        typer.Option(
            help="What the prompt begins with. normal: random numbers, as in the paper; scaled: small ones; zeros. "
            "vocabulary, frequent_units: the model's states of random units, or of the most frequent of the training "
            "recordings. class_means: its mean states of the recordings of a label."
        ),
    ] = "normal",
    verbalizer: Annotated[
        Literal["learnable", "frequency", "random"],
        typer.Option(
            help="What turns the model's units into labels. learnable: one or two small layers. frequency, random: "
            "every label gets one unit, nothing is trained."
        ),
    ] = "learnable",
    verbalizer_hidden_size: Annotated[
        int,
        typer.Option(
            min=0,
            max=65_536,
            help="Detectors between the model's units and the labels, in a learnable verbalizer; 0: one linear layer. "
            "With thousands of recordings 256, and --label-smoothing 0.1, are worth trying.",
        ),
    ] = 0,
    readout: Annotated[
        Literal["separator", "pooled"],
        typer.Option(help="Where it reads. separator: after the utterance, as in the paper. pooled: over all of it."),
    ] = "pooled",
    label_smoothing: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the target that all labels have alike.")
    ] = 0.0,
    epochs: Annotated[
        int, typer.Option(min=1, help="The most passes over the training rows.", show_default="25; 50 for texts")
    ] = 25,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many passes without a better one.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings, or rows of units, in one update.")] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0.0, help="0.01 by default, 0.005 for texts, 0.0005 to finetune.", show_default=False),
    ] = None,
    beams: BeamsOption = 1,
    copies: Annotated[int, typer.Option(min=0, help="Changed copies (speed, noise, gain) of each recording.")] = 0,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="A further baseline for the report, may be repeated. hidden_states: logistic regression on the "
            "language model's states. encoder_mean: on the mean of the encoder's features.",
            show_default=False,
        ),
    ] = None,
    source_column: SourceColumnOption = None,
    target_column: TargetColumnOption = None,
    target_base: TargetBaseOption = None,
    vocoder: VocoderNameOption = None,
    prompt_seconds: PromptSecondsOption = None,
    damage_rate: DamageRateOption = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Calculate in bfloat16.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run into this output was.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the adapter that the output holds.")] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train an adapter on recordings with labels or texts, or their units, and measure it on those it has not heard.

    The simplest data set is a folder with one sub-folder of recordings per label. Validation and test parts are made
    where they are missing, from other speakers where speakers are known.

    Writes the adapter, report.json and confusion.png into the output folder, and prints the accuracy with its 95 %
    interval beside two baselines: always the most frequent label, and TF-IDF of units with a linear classifier.

    Tasks of texts (recognition, slots, translation) need metadata.csv, metadata.jsonl or Parquet with the texts. For
    them it prints error rates, BLEU or F1 of slots instead, beside those of the most frequent text, and draws nothing.

    Tasks of speech need recordings alone, or two columns of them for a translation. They print the error rate of
    units.
    """
    given = given_options(context)
    is_speech = task in SPEECH_TASK_NAMES
    is_text = task in SEQUENCE_TASK_NAMES or is_speech
    check_options(given, is_text=is_text, of=task or "this task")
    check_speech_options(given, is_speech=is_speech, of=task or "this task")
    options: dict[str, Any] = {
        "prompt": prompt,
        "num_virtual_tokens": num_virtual_tokens,
        "prompt_layers": prompt_layers,
        "prompt_init": prompt_init,
        "verbalizer": verbalizer,
        "verbalizer_hidden_size": verbalizer_hidden_size,
        "readout": readout,
        "label_smoothing": label_smoothing,
        "num_epochs": epochs,
        "patience": patience,
        "batch_size": batch_size,
        "bf16": bf16,
    }
    if learning_rate is not None:
        options["finetune_learning_rate" if method == "finetune" else "learning_rate"] = learning_rate
    _check_output(output, resume=resume, overwrite=overwrite)
    if is_text:
        _train_text_task(context, dataset, output, given, as_json=as_json)
        return
    with working():
        from speechprompt_hf.tasks import task_by_name
        from speechprompt_hf.training import TrainingSettings, run_experiment

        experiment = run_experiment(
            dataset,
            output,
            base=base,
            task=task_by_name(task) if task else None,
            label_column=label_columns(label_column),
            speaker_column=speaker_column,
            settings=TrainingSettings(**options),
            method=method,
            seed=seed,
            num_copies=copies,
            extra_baselines=baseline or (),
            resume=resume,
        )
    if not experiment.result.is_first_process:
        return
    if as_json:
        print_json(experiment.report)
        return
    print_report(experiment.report, listed=f"{output / 'report.json'} lists them")
    _print_next(output, experiment.result.model.processor is not None, "adapter, report.json, confusion.png")


def _train_text_task(context: typer.Context, dataset: str, output: Path, given: list[str], *, as_json: bool) -> None:
    with working():
        train_it = train_speech_task if context.params["task"] in SPEECH_TASK_NAMES else train_text_task
        experiment = train_it(dataset, output, context.params, given)
    if not experiment.result.is_first_process:
        return
    if as_json:
        print_json(experiment.report)
        return
    print_sequence_report(experiment.report, listed=f"{output / 'report.json'} lists them")
    hears = experiment.result.model.processor is not None
    if context.params["task"] in SPEECH_TASK_NAMES and hears:
        print_line(f"saved in {output} (adapter, report.json)")
        print_line(f"next: speechprompt generate {output} RECORDING.wav --vocoder VOCODER --output SPEECH")
        return
    _print_next(output, hears, "adapter, report.json")


def _check_output(output: Path, *, resume: bool, overwrite: bool) -> None:
    holds = _what_is_in(output)
    if holds and not (resume or overwrite):
        raise typer.BadParameter(
            f"{output} holds {holds}: choose another folder, or replace it with --overwrite", param_hint="--output"
        )
    if not resume or _can_go_on(output):
        return
    if holds and not overwrite:
        raise typer.BadParameter(
            f"{output} holds {holds} and no checkpoint: the run is finished, there is nothing to resume; replace it "
            "with --overwrite",
            param_hint="--resume",
        )
    note(f"there is nothing to resume in {output}: training starts anew")


def _what_is_in(output: Path) -> str | None:
    """What training into this folder would replace."""
    # A run that was stopped between adapter and report left no report.
    if any((output / name).exists() for name in ("report.json", "verbalizer.safetensors")):
        return "a trained adapter"
    return "a model" if (output / "config.json").exists() else None


def _can_go_on(output: Path) -> bool:
    if not any(output.glob("checkpoints/checkpoint-*")):
        return False
    with working():
        from speechprompt_hf.training.resuming import last_complete_checkpoint

        return last_complete_checkpoint(output / "checkpoints") is not None


def _print_next(output: Path, hears: bool, files: str) -> None:
    print_line(f"saved in {output} ({files})")
    print_line(f"next: speechprompt predict {output} {'RECORDING.wav' if hears else 'UNITS.parquet'}")
