"""`speechprompt convert gslm|causal-lm|base|unit-mbart|hifigan|prompt`: what works on units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import note, working
from ..options import JsonOption
from .convert_work import (
    Delivery,
    DestinationArgument,
    DTypeOption,
    MirrorOption,
    PrivateOption,
    PushOption,
    check_new,
    check_push,
    convert_file,
    finish,
    units_and_parameters,
)

if TYPE_CHECKING:
    from speechprompt_hf.convert.source import Source

__all__ = ["base", "causal_lm", "gslm", "hifigan", "prompt", "unit_mbart"]

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
    language_model: Annotated[
        Path, typer.Argument(help="The folder of convert gslm, convert unit-mbart or convert causal-lm.")
    ],
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
    delivery = Delivery(push, private, as_json)
    check_new(destination)
    with working():
        from speechprompt_hf.convert.whole_base import check_language_model, join_base

        check_push(delivery, check_language_model(language_model))
        result = join_base(language_model, processor, destination)
        line = f"{destination}\t{result['units']} units\t{result['digest']}"
        finish(result, line, destination, delivery)


def causal_lm(
    source: Annotated[Path, typer.Argument(help="A folder that transformers or slamkit saved: TWIST-350M, slam, …")],
    destination: DestinationArgument,
    processor: Annotated[
        Path | None,
        typer.Option(
            help="The folder of convert processor, which makes its units; without it the base reads units.",
            show_default=False,
        ),
    ] = None,
    unit_offset: Annotated[
        int | None, typer.Option(min=0, help="Token of unit 0, where no file says it.", show_default=False)
    ] = None,
    num_units: Annotated[
        int | None,
        typer.Option(min=1, help="Units; all tokens from the offset on by default.", show_default=False),
    ] = None,
    start_token_id: Annotated[
        int | None,
        typer.Option(min=0, help="The token before the first unit, where no file says it.", show_default=False),
    ] = None,
    end_token_id: Annotated[
        int | None,
        typer.Option(min=0, help="The token after the last unit, where no file says it.", show_default=False),
    ] = None,
    dtype: DTypeOption = "float32",
    push: PushOption = None,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a base of a language model of transformers over units: TWIST, slamkit, Llama, OPT and their kin.

    Which tokens are units is read from the files, or said with --unit-offset. With --processor the result is what
    train takes as --base for recordings; that the two belong together is your word.
    """
    import warnings

    delivery = Delivery(push, private, as_json)
    check_new(destination)
    with working():
        from speechprompt_hf.convert.whole_base import wrap_base

        check_push(delivery, "unit_causal_lm")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            result = wrap_base(
                source,
                destination,
                processor=processor,
                unit_offset=unit_offset,
                num_units=num_units,
                start_token_id=start_token_id,
                end_token_id=end_token_id,
                dtype=dtype,
            )
        for warning in said:
            note(str(warning.message))
        finish(result, units_and_parameters(result), destination, delivery)


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
    base: Annotated[
        str,
        typer.Option(
            "--base",
            help="The converted language model that it was trained on; joined to a processor (convert base), the "
            "adapter reads recordings.",
        ),
    ],
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
        if result["reads"] == "units":
            note(
                f"{base} has no processor, so the adapter reads units; for recordings join one to it with "
                "speechprompt convert base, and convert the prompt on that"
            )
        return result

    def describe(result: dict[str, Any]) -> str:
        return f"{destination}\t{result['classes']} classes\t{result['parameters']} parameters"

    def publish(*args: Any, **options: Any) -> Any:
        from speechprompt_hf.hub.push import push_adapter

        return push_adapter(*args, **options)

    delivery = Delivery(push, private, as_json)
    convert_file("prompt", source, destination, convert, describe, delivery, publish=publish)
