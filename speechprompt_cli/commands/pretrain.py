"""`speechprompt pretrain`: a unit language model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..console import is_main_process, note, print_json, print_line, working
from ..corpora import read_corpus
from ..options import DatasetOption, DeviceOption, JsonOption, OutputOption, SeedOption

if TYPE_CHECKING:
    from datasets import Dataset

    from speechprompt_hf.processors.processing_speech_units import SpeechUnitProcessor


def run(
    dataset: DatasetOption,
    output: OutputOption,
    base: Annotated[
        str | None,
        typer.Option(help="What made the units: the folder of quantize; its files are copied into the output."),
    ] = None,
    num_units: Annotated[
        int | None, typer.Option("--num-units", min=1, help="Instead of --base: how many different units there are.")
    ] = None,
    architecture: Annotated[
        Literal["gslm", "unit-mbart"],
        typer.Option(help="gslm says the next unit; unit-mbart reads with its encoder and restores masked spans."),
    ] = "gslm",
    language: Annotated[
        str | None,
        typer.Option(
            help="Of unit-mbart: the language of all utterances, for example en; by default the corpus's column "
            "language says it of each.",
            show_default=False,
        ),
    ] = None,
    packed: Annotated[
        bool, typer.Option("--packed", help="Of gslm: several utterances a row, none of which sees another.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 1500,
    tokens_per_step: Annotated[int, typer.Option(min=16, help="Units in one update, padding included.")] = 6144,
    layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Layers of the model; of unit-mbart those of its encoder, and as many of its decoder. By default 4, "
            "and 2 + 2.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[int, typer.Option(min=8, help="Width of the model; four times as wide inside the layers.")] = 256,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Highest learning rate.")] = 2e-3,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output's quantizer by the one of --base.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a unit language model on a corpus of units: the last step to a backbone of your own.

    The corpus is what units --dataset wrote, or any Parquet with a column units. With --base the output is a whole
    backbone that train takes as --base. A run that was stopped goes on from its checkpoint. Several processes, started
    by torchrun -m speechprompt_hf pretrain or accelerate launch, train one model.
    """
    if (base is None) == (num_units is None):
        raise typer.BadParameter("give either --base or --num-units")
    if width % heads:
        raise typer.BadParameter(f"a width of {width} cannot be shared by {heads} heads")
    is_gslm = architecture == "gslm"
    if is_gslm and language is not None:
        raise typer.BadParameter("a gslm has no languages: --language belongs to --architecture unit-mbart")
    if packed and not is_gslm:
        raise typer.BadParameter("--packed belongs to --architecture gslm")
    depth = layers if layers is not None else (4 if is_gslm else 2)
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        **({} if is_gslm else {"num_encoder_layers": depth}),
    }
    options: dict[str, Any] = {
        "num_steps": steps,
        "tokens_per_step": tokens_per_step,
        "learning_rate": learning_rate,
        "seed": seed,
        "model": sizes,
        **({"break_mode": "packed"} if packed else {}),
    }
    with working():
        processor = _processor_for(base, output, device, overwrite=overwrite) if base is not None else None
        train = _pretrain_gslm if is_gslm else partial(_pretrain_unit_mbart, language)
        result = _pretrain(dataset, output, processor, num_units, partial(train, options, device))
    if not is_main_process():
        return
    if as_json:
        print_json(result)
    else:
        loss = result["last_report"].get("validation_loss", result["last_report"].get("loss"))
        print_line(f"{output}\t{result['parameters']} parameters\tloss {loss} nats a unit")


def _processor_for(base: str, output: Path, device: str | None, *, overwrite: bool) -> SpeechUnitProcessor:
    """What made the units; refuses to put it in the place of another quantizer, on which models may stand."""
    from speechprompt_hf import SpeechUnitProcessor
    from speechprompt_hf.core.errors import SpeechPromptError
    from speechprompt_hf.pretraining.checkpoints import forget_other_units
    from speechprompt_hf.pretraining.processes import Processes

    processor = SpeechUnitProcessor.from_pretrained(base)
    if not (output / "quantizer.safetensors").exists():
        return processor
    try:
        there = SpeechUnitProcessor.from_pretrained(output).fingerprint["digest"]
    except SpeechPromptError:
        there = None
    if there == processor.fingerprint["digest"]:
        return processor
    if not overwrite:
        raise typer.BadParameter(
            f"{output} holds a quantizer other than that of --base, and language models and adapters may stand on its "
            "units: choose another folder, or replace it with --overwrite",
            param_hint="--output",
        )
    # None of several processes may go on from the old checkpoint before the first one has deleted it.
    processes = Processes.join(device)
    if processes.is_main:
        forget_other_units(output, processor.fingerprint["digest"])
    processes.wait()
    return processor


def _pretrain(
    dataset: str,
    output: Path,
    processor: SpeechUnitProcessor | None,
    num_units: int | None,
    train_on: Callable[..., Any],
) -> dict[str, Any]:
    from speechprompt_hf import UnitVocabulary
    from speechprompt_hf.pretraining.unit_columns import UnitColumn

    vocabulary = processor.tokenizer.vocabulary if processor else UnitVocabulary.from_num_units(num_units or 1)
    fingerprint = processor.fingerprint if processor else None
    corpus = read_corpus(dataset)
    _check_units(corpus, dataset, fingerprint)
    train = corpus.get("train") or next(iter(corpus.values()))
    reports: list[dict[str, float]] = []
    if is_main_process():
        note(f"{len(train)} utterances, {UnitColumn(train).lengths.sum()} units")
    model, seed = train_on(
        train,
        corpus.get("validation"),
        output,
        vocabulary=vocabulary,
        fingerprint=fingerprint,
        on_report=reports.append,
    )
    if processor is not None and is_main_process():
        processor.save_pretrained(output, save_encoder=True)
    return {
        "output": str(output),
        "parameters": model.num_parameters(),
        "seed": seed,
        "last_report": reports[-1] if reports else {},
    }


def _pretrain_gslm(
    options: dict[str, Any], device: str | None, train: Dataset, validation: Dataset | None, output: Path, **given: Any
) -> tuple[Any, int]:
    from speechprompt_hf.pretraining.gslm_pretraining import PretrainingConfig, pretrain_gslm
    from speechprompt_hf.pretraining.unit_columns import UnitColumn

    held_out = () if validation is None else UnitColumn(validation)
    config = PretrainingConfig(**options)
    model = pretrain_gslm(UnitColumn(train), output, config, validation=held_out, device=device, **given)
    return model, config.seed


def _pretrain_unit_mbart(
    language: str | None,
    options: dict[str, Any],
    device: str | None,
    train: Dataset,
    validation: Dataset | None,
    output: Path,
    **given: Any,
) -> tuple[Any, int]:
    from speechprompt_hf.pretraining.unit_columns import UnitColumn
    from speechprompt_hf.pretraining.unit_mbart_pretraining import UnitMBartPretrainingConfig, pretrain_unit_mbart

    config = UnitMBartPretrainingConfig(**options)
    model = pretrain_unit_mbart(
        UnitColumn(train),
        output,
        config,
        languages=_languages(train, language),
        validation=() if validation is None else UnitColumn(validation),
        validation_languages=None if validation is None else _languages(validation, language),
        device=device,
        **given,
    )
    return model, config.seed


def _languages(table: Dataset, language: str | None) -> list[str] | str:
    from speechprompt_hf.core.errors import DatasetError

    if language is not None:
        return language
    if "language" not in table.column_names:
        raise DatasetError(
            f"the corpus has no column language, but {', '.join(table.column_names)}",
            hint="name the language of all utterances: --language en",
        )
    missing = [row for row, name in enumerate(table["language"]) if not isinstance(name, str) or not name]
    if missing:
        raise DatasetError(
            f"row {missing[0]} of the corpus has no language", hint="fill the column, or give --language"
        )
    return list(table["language"])


def _check_units(corpus: dict[str, Any], dataset: str, fingerprint: dict[str, Any] | None) -> None:
    from speechprompt_hf.core.errors import DatasetError, FingerprintMismatchError
    from speechprompt_hf.core.files import read_json

    for name, table in corpus.items():
        if "units" not in table.column_names:
            raise DatasetError(
                f"part {name} of {dataset!r} has no column units",
                hint=f"speechprompt units --dataset {dataset} --output DIR makes it",
            )
    summary = Path(dataset).expanduser() / "units.json"
    if fingerprint is None or not summary.is_file():
        return
    made = read_json(summary).get("fingerprint") or {}
    if made.get("digest") != fingerprint["digest"]:
        raise FingerprintMismatchError(
            f"the units in {dataset!r} were made by {made.get('digest')!r}, --base makes {fingerprint['digest']!r}",
            hint="give the --base that made these units",
        )
