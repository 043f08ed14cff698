"""`speechprompt convert encoder|quantizer|processor`: what makes units of recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    source_files,
)

if TYPE_CHECKING:
    from speechprompt_hf.convert.source import Source

__all__ = ["encoder", "processor", "quantizer"]


def encoder(
    source: Annotated[
        str, typer.Argument(help="hubert_base_ls960.pt or its like, an archive, or a name of the list.")
    ],
    destination: DestinationArgument,
    dtype: DTypeOption = "float32",
    push: PushOption = None,
    private: PrivateOption = False,
    mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a HuBERT of fairseq to a folder that transformers' HubertModel opens."""

    def convert(found: Source) -> dict[str, Any]:
        from speechprompt_hf.convert.encoder import convert_encoder

        return convert_encoder(found.checkpoint, destination, dtype=dtype)

    def describe(result: dict[str, Any]) -> str:
        return f"{destination}\t{result['layers']} layers\t{result['parameters']} parameters"

    delivery = Delivery(push, private, as_json)
    convert_file("encoder", source, destination, convert, describe, delivery, mirror=mirror)


def quantizer(
    source: Annotated[
        str,
        typer.Argument(help="k-means of scikit-learn, saved by joblib (km.bin), an archive, or a name of the list."),
    ],
    destination: Annotated[Path, typer.Argument(help="The folder of the result.", file_okay=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the quantizer in the folder.")] = False,
    push: PushOption = None,
    private: PrivateOption = False,
    mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert the centroids of a k-means to quantizer.safetensors."""
    delivery = Delivery(push, private, as_json)
    if not (destination / "quantizer.safetensors").exists():
        check_new(destination)
    elif not overwrite:
        raise typer.BadParameter(
            f"{destination} holds a quantizer, and language models and adapters may stand on its units: choose "
            "another folder, or replace it with --overwrite"
        )
    with working():
        check_push(delivery, "quantizer")
        from speechprompt_hf.convert.quantizer import convert_quantizer

        with source_files("quantizer", source, destination, mirror=mirror) as found:
            facts = {name: found.origin.get(name) for name in ("url", "licence")}
            if found.entry is not None:
                facts |= {"encoder": found.entry.encoder, "layer": found.entry.layer}
            metadata = {name: str(value) for name, value in facts.items() if value is not None}
            result = convert_quantizer(found.checkpoint, destination, metadata=metadata, overwrite=overwrite)
        line = f"{result['output']}\t{result['units']} units\t{result['features']} features"
        result = {**result, "origin": found.origin}
        finish(result, line, destination, delivery)


def processor(
    recipe: Annotated[
        str,
        typer.Argument(help="Name of the units: that of the quantizer in the list, or with --layer one of your own."),
    ],
    encoder: Annotated[Path, typer.Argument(help="The folder of convert encoder, or another HuBERT of transformers.")],
    quantizer: Annotated[
        Path, typer.Argument(help="The folder of convert quantizer or quantize, or its quantizer.safetensors.")
    ],
    destination: DestinationArgument,
    layer: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="For an encoder and a quantizer of your own: whose features the quantizer divides; 0 is the first "
            "layer's input.",
            show_default=False,
        ),
    ] = None,
    normalization: Annotated[
        Literal["none", "zero_mean_unit_variance", "unit_rms"] | None,
        typer.Option(
            help="With --layer: how the encoder's input was scaled in its training; read from its conversion.json or "
            "preprocessor_config.json by default.",
            show_default=False,
        ),
    ] = None,
    dictionary: Annotated[
        Path | None,
        typer.Option("--dict", help="A language model's dict.txt, if its units are not in numeric order."),
    ] = None,
    push: PushOption = None,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Join a converted encoder and quantizer to what makes units: a processor.

    The recipe knows layer, number of units and frame rate of the published units, and refuses parts that are not
    theirs. For units of your own say the layer with --layer. The encoder is cut above the layer.
    """
    delivery = Delivery(push, private, as_json)
    if normalization is not None and layer is None:
        raise typer.BadParameter(
            "it belongs to --layer: that of published units is known", param_hint="--normalization"
        )
    check_new(destination)
    with working():
        from speechprompt_hf.convert.own_units import recipe_of_own
        from speechprompt_hf.convert.recipes import build_processor, find_recipe

        needed = (
            find_recipe(recipe)
            if layer is None
            else recipe_of_own(recipe, encoder, quantizer, layer, normalization=normalization)
        )
        check_push(delivery, "processor")
        result = build_processor(needed, encoder, quantizer, destination, dictionary=dictionary)
        for name in ("encoder", "quantizer"):
            if layer is None and not result[f"{name}_is_published"]:
                note(f"nothing shows that this {name} is the published one of {recipe}: its digest is not known")
        line = f"{destination}\t{result['units']} units\tlayer {result['layer']} of {result['encoder']}"
        finish(result, line, destination, delivery)
