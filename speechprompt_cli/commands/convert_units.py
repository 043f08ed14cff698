"""`speechprompt convert gslm|base|unit-mbart|hifigan|prompt`: what works on units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import working
from ..options import JsonOption
from .convert_work import (
    DestinationArgument,
    DTypeOption,
    MirrorOption,
    PrivateOption,
    PushOption,
    check_new,
    check_repository,
    finish,
    source_files,
)

__all__ = ["base", "gslm", "hifigan", "prompt", "unit_mbart"]

DictionaryOption = Annotated[
    Path | None,
    typer.Option(
        "--dict",
        help="fairseq's dict.txt, the order of the units; by default the one in the archive or beside the file.",
        show_default=False,
    ),
]


def gslm(
    source: Annotated[str, typer.Argument(help="checkpoint_best.pt, an archive, or a name of the list.")],
    destination: DestinationArgument,
    dictionary: DictionaryOption = None,
    dtype: DTypeOption = "float32",
    push: PushOption = None,
    private: PrivateOption = False,
    mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a unit language model of fairseq (transformer_lm and its kin).

    The result reads units. Join it to a processor with convert base, and it is what train takes as --base for
    recordings.
    """
    check_new(destination)
    with working():
        check_repository(push)
        from speechprompt_hf.convert.gslm import convert_gslm
        from speechprompt_hf.convert.source import record_origin

        with source_files("gslm", source, destination, companion=dictionary, mirror=mirror) as found:
            assert found.companion is not None  # open_source raises without one
            result = convert_gslm(found.checkpoint, destination, found.companion, dtype=dtype)
            record_origin(destination, found.origin)
        line = f"{result['output']}\t{result['units']} units\t{result['parameters']} parameters"
        result = {**result, "origin": found.origin}
        finish(result, line, folder=destination, push=push, private=private, as_json=as_json)


def base(
    language_model: Annotated[Path, typer.Argument(help="The folder of convert gslm or convert unit-mbart.")],
    processor: Annotated[Path, typer.Argument(help="The folder of convert processor.")],
    destination: DestinationArgument,
    push: PushOption = None,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Join a converted language model and a processor to a base: what train takes as --base.

    A language model that was converted by a name of the list is refused with a processor of other units. Of any other
    nothing says which units it was trained on: convert --list says what belongs together. From then on units of
    another encoder or quantizer are refused.
    """
    check_new(destination)
    with working():
        check_repository(push)
        from speechprompt_hf.convert.whole_base import join_base

        result = join_base(language_model, processor, destination)
        line = f"{destination}\t{result['units']} units\t{result['digest']}"
        finish(result, line, folder=destination, push=push, private=private, as_json=as_json)


def unit_mbart(
    source: Annotated[str, typer.Argument(help="checkpoint.pt, an archive, or a name of the list.")],
    destination: DestinationArgument,
    dictionary: DictionaryOption = None,
    dtype: DTypeOption = "float32",
    language: Annotated[
        list[str] | None,
        typer.Option(
            help="A language of its pretraining, may be repeated, in order; for a file that names none.",
            show_default=False,
        ),
    ] = None,
    inner_eos: Annotated[
        bool, typer.Option(help="Whether </s> stood between the units and the language; no file says it.")
    ] = True,
    push: PushOption = None,
    private: PrivateOption = False,
    mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a unit mBART of fairseq: an encoder-decoder over units."""
    check_new(destination)
    with working():
        check_repository(push)
        from speechprompt_hf.convert.source import record_origin
        from speechprompt_hf.convert.unit_mbart import convert_unit_mbart

        with source_files("unit-mbart", source, destination, companion=dictionary, mirror=mirror) as found:
            assert found.companion is not None  # open_source raises without one
            result = convert_unit_mbart(
                found.checkpoint,
                destination,
                found.companion,
                dtype=dtype,
                languages=language or None,
                inner_eos=inner_eos,
            )
            record_origin(destination, found.origin)
        line = f"{result['output']}\t{result['units']} units\t{result['parameters']} parameters"
        result = {**result, "origin": found.origin}
        finish(result, line, folder=destination, push=push, private=private, as_json=as_json)


def hifigan(
    source: Annotated[str, typer.Argument(help="g_00500000, an archive, or a name of the list.")],
    destination: DestinationArgument,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The vocoder's config.json; by default the one in the archive or beside the file.",
            show_default=False,
        ),
    ] = None,
    dtype: DTypeOption = "float32",
    push: PushOption = None,
    private: PrivateOption = False,
    mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a unit HiFi-GAN of fairseq: a vocoder that makes sound of units."""
    check_new(destination)
    with working():
        check_repository(push)
        from speechprompt_hf.convert.hifigan import convert_hifigan
        from speechprompt_hf.convert.source import record_origin

        with source_files("hifigan", source, destination, companion=config, mirror=mirror) as found:
            assert found.companion is not None  # open_source raises without one
            result = convert_hifigan(found.checkpoint, destination, found.companion, dtype=dtype)
            record_origin(destination, found.origin)
        line = f"{result['output']}\t{result['units']} units\t{result['parameters']} parameters"
        result = {**result, "origin": found.origin}
        finish(result, line, folder=destination, push=push, private=private, as_json=as_json)


def prompt(
    source: Annotated[str, typer.Argument(help="A prompt checkpoint of SpeechPrompt v1 or v2, or an archive.")],
    destination: DestinationArgument,
    base: Annotated[str, typer.Option("--base", help="The converted language model that it was trained on.")],
    base_revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a base on the Hub.", show_default=False)
    ] = None,
    verbalizer: Annotated[
        Path | None,
        typer.Option(
            help="v2's verbalizer.json or v1's verbal.json: which unit stands for which label. Needed where the "
            "checkpoint has no linear verbalizer.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The task in verbal.json, for example KS.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="JSON: the labels of a linear verbalizer, in order.", show_default=False)
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="JSON, for several labels an utterance: class name to labels, or the sequences of labels.",
            show_default=False,
        ),
    ] = None,
    dictionary: Annotated[
        Path | None, typer.Option("--dict", help="dict.txt of a base that has none beside it.", show_default=False)
    ] = None,
    push: PushOption = None,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert a prompt that the SpeechPrompt repositories trained to an adapter.

    With --push the base has to be on the Hub: publish it first with push-base, or with --push of convert gslm.
    """
    check_new(destination)
    with working():
        check_repository(push)
        from speechprompt_hf.convert.prompt import convert_prompt
        from speechprompt_hf.convert.source import record_origin
        from speechprompt_hf.hub.push import push_adapter

        with source_files("prompt", source, destination) as found:
            result = convert_prompt(
                found.checkpoint,
                destination,
                base,
                verbalizer=verbalizer,
                task=task,
                labels=labels,
                classes=classes,
                dictionary=dictionary,
                base_revision=base_revision,
            )
            record_origin(destination, found.origin)
        line = f"{destination}\t{result['classes']} classes\t{result['parameters']} parameters"
        result = {**result, "origin": found.origin}
        finish(result, line, folder=destination, push=push, private=private, as_json=as_json, publish=push_adapter)
