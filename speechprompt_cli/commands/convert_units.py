"""`speechprompt convert gslm|base|unit-mbart|hifigan|prompt`: what works on units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import working
from ..options import JsonOption
from .convert_work import (
    Delivery,
    DestinationArgument,
    DTypeOption,
    MirrorOption,
    PrivateOption,
    PushOption,
    check_new,
    check_repository,
    convert_file,
    finish,
    units_and_parameters,
)

if TYPE_CHECKING:
    from speechprompt_hf.convert.source import Source

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

    def convert(found: Source) -> dict[str, Any]:
        from speechprompt_hf.convert.gslm import convert_gslm

        assert found.companion is not None  # open_source raises without one
        return convert_gslm(found.checkpoint, destination, found.companion, dtype=dtype)

    delivery = Delivery(push, private, as_json)
    convert_file(
        "gslm", source, destination, convert, units_and_parameters, delivery, companion=dictionary, mirror=mirror
    )


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
        finish(result, line, destination, Delivery(push, private, as_json))


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

    def convert(found: Source) -> dict[str, Any]:
        from speechprompt_hf.convert.unit_mbart import convert_unit_mbart

        assert found.companion is not None  # open_source raises without one
        options: dict[str, Any] = {"dtype": dtype, "languages": language or None, "inner_eos": inner_eos}
        return convert_unit_mbart(found.checkpoint, destination, found.companion, **options)

    delivery = Delivery(push, private, as_json)
    convert_file(
        "unit-mbart", source, destination, convert, units_and_parameters, delivery, companion=dictionary, mirror=mirror
    )


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

    def convert(found: Source) -> dict[str, Any]:
        from speechprompt_hf.convert.hifigan import convert_hifigan

        assert found.companion is not None  # open_source raises without one
        return convert_hifigan(found.checkpoint, destination, found.companion, dtype=dtype)

    delivery = Delivery(push, private, as_json)
    convert_file(
        "hifigan", source, destination, convert, units_and_parameters, delivery, companion=config, mirror=mirror
    )


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

    def convert(found: Source) -> dict[str, Any]:
        from speechprompt_hf.convert.prompt import convert_prompt

        return convert_prompt(
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

    def describe(result: dict[str, Any]) -> str:
        return f"{destination}\t{result['classes']} classes\t{result['parameters']} parameters"

    def publish(*args: Any, **options: Any) -> Any:
        from speechprompt_hf.hub.push import push_adapter

        return push_adapter(*args, **options)

    delivery = Delivery(push, private, as_json)
    convert_file("prompt", source, destination, convert, describe, delivery, publish=publish)
