"""Which encoder, layer and quantizer make which units, and processors that are put together accordingly."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.vocabulary import UnitVocabulary
from ..processors.quantizer import QUANTIZER_FILE, Quantizer
from ..processors.tokenization_units import UnitTokenizer
from .catalogue import entries_of, has_entry
from .catalogue_types import Kind
from .encoder import read_quantizer, save_processor
from .errors import ConversionError
from .new_folder import new_folder
from .part_folders import check_quantizer_place, conversion_record, encoder_place, frame_rate_of, hubert_config

__all__ = ["RECIPES", "ProcessorRecipe", "build_processor", "find_recipe"]


@dataclass(frozen=True)
class ProcessorRecipe:
    """How the units of a published quantizer are made.

    Attributes:
        name (`str`): of the units, as in the catalogue.
        encoder (`str`): name of the encoder in the catalogue.
        layer (`int`): index into `hidden_states`; fairseq's `output_layer`.
        num_units (`int`): centroids K.
        frame_rate (`float`): units in a second, before equal neighbours are merged.
        feature_size (`int`): width of a hidden state.
        normalization (`str`): how recordings are scaled, where the encoder's `conversion.json` does not say.
    """

    name: str
    encoder: str
    layer: int
    num_units: int
    frame_rate: float = 50.0
    feature_size: int = 768
    normalization: str = "none"


RECIPES: tuple[ProcessorRecipe, ...] = (
    ProcessorRecipe("hubert-base-km50", "hubert-base", layer=6, num_units=50),
    ProcessorRecipe("hubert-base-km100", "hubert-base", layer=6, num_units=100),
    ProcessorRecipe("hubert-base-km200", "hubert-base", layer=6, num_units=200),
    ProcessorRecipe("hubert-base-km500", "hubert-base", layer=6, num_units=500),
    ProcessorRecipe("hubert-base-l9-km500", "hubert-base", layer=9, num_units=500),
    ProcessorRecipe("mhubert-base-km1000", "mhubert-base", layer=11, num_units=1000),
    ProcessorRecipe("mhubert-8lang-km2000", "mhubert-8lang", layer=12, num_units=2000),
    ProcessorRecipe("mhubert-25hz-km500", "mhubert-25hz", layer=11, num_units=500, frame_rate=25.0),
)
"""The units of GSLM and SpeechPrompt, of speech-to-speech translation and Unit mBART, of Expresso, and of TWIST."""


def find_recipe(name: str) -> ProcessorRecipe:
    """The recipe of a name.

    Args:
        name (`str`): for example `"hubert-base-km100"`.

    Raises:
        ConversionError: there is none; the message has those that there are.
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    names = [recipe.name for recipe in RECIPES]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names
    raise ConversionError(
        f"there is no recipe {name!r}"[:200],
        hint=f"there is {', '.join(near)}; for units of your own say their layer (docs/converting.md, Processors)",
    )


def build_processor(
    recipe: ProcessorRecipe | str,
    encoder_folder: str | Path,
    quantizer_folder: str | Path,
    destination: str | Path,
    *,
    dictionary: str | Path | None = None,
) -> dict[str, Any]:
    """Join an encoder and a quantizer to a processor that `AutoProcessor.from_pretrained` opens.

    Args:
        recipe (`ProcessorRecipe | str`): what the two have to be.
        encoder_folder (`str | Path`): what `convert_encoder` made, or another folder of a `HubertModel`. It is cut
            above the recipe's layer.
        quantizer_folder (`str | Path`): folder with `quantizer.safetensors`, or that file.
        destination (`str | Path`): the new folder.
        dictionary (`str | Path`, *optional*): `dict.txt` of a language model, if its units are not in numeric order.

    Returns:
        `dict`: `output`, `recipe`, `encoder`, `layer`, `units`, `frame_rate`, `normalization`, `digest` of the
        fingerprint, `encoder_is_published` and `quantizer_is_published`: whether the digest of the file each was made
        of is the catalogue's, `False` also where it is unknown.

    Raises:
        ConversionError: encoder or quantizer are not those of the recipe; nothing is left behind.
        ConfigurationError: a file is absent or damaged.
        VocabularyError: the dictionary has other units.
    """
    if isinstance(recipe, str):
        recipe = find_recipe(recipe)
    check_quantizer_place(quantizer_folder)
    source = encoder_place(Path(encoder_folder))
    _check_encoder(recipe, source)
    conversion = conversion_record(source)
    encoder_is_published = _is_published("encoder", recipe.encoder, conversion.get("source_sha256"), source, recipe)
    quantizer = read_quantizer(quantizer_folder)
    _check_quantizer(recipe, quantizer, quantizer_folder)
    quantizer_sha256 = quantizer.metadata.get("source_sha256")
    quantizer_is_published = _is_published("quantizer", recipe.name, quantizer_sha256, quantizer_folder, recipe)
    normalization = conversion.get("normalization", recipe.normalization)
    tokenizer = None if dictionary is None else UnitTokenizer(vocabulary=UnitVocabulary.from_dict_txt(dictionary))
    with new_folder(destination) as folder:
        quantizer.save(folder / QUANTIZER_FILE)
        fingerprint = save_processor(
            folder,
            source,
            quantizer,
            layer=recipe.layer,
            normalization=normalization,
            encoder_id=recipe.encoder,
            tokenizer=tokenizer,
        )
    return {
        "output": str(destination),
        "recipe": recipe.name,
        "encoder": recipe.encoder,
        "layer": recipe.layer,
        "units": recipe.num_units,
        "frame_rate": recipe.frame_rate,
        "normalization": normalization,
        "digest": fingerprint["digest"],
        "encoder_is_published": encoder_is_published,
        "quantizer_is_published": quantizer_is_published,
    }


def _check_encoder(recipe: ProcessorRecipe, place: Path) -> None:
    config = hubert_config(recipe.name, place)
    layers = config.get("num_hidden_layers")
    if type(layers) is not int or layers < recipe.layer:
        raise ConversionError(
            f"the encoder in {place} has {layers!r:.60} layers, {recipe.name} needs features of layer {recipe.layer}",
            hint=f"convert the encoder whole, or up to layer {recipe.layer}",
        )
    if config.get("hidden_size") != recipe.feature_size:
        raise ConversionError(
            f"the encoder in {place} has features of size {config.get('hidden_size')!r:.60}, "
            f"{recipe.name} needs {recipe.feature_size}"
        )
    frame_rate = frame_rate_of(config, place)
    if frame_rate != recipe.frame_rate:
        raise ConversionError(
            f"the encoder in {place} makes {frame_rate:g} frames a second, {recipe.name} needs {recipe.frame_rate:g}",
            hint=f"the recipe's encoder is {recipe.encoder}",
        )


def _check_quantizer(recipe: ProcessorRecipe, quantizer: Quantizer, place: str | Path) -> None:
    if (quantizer.num_units, quantizer.feature_size) != (recipe.num_units, recipe.feature_size):
        raise ConversionError(
            f"the centroids in {place} have shape {(quantizer.num_units, quantizer.feature_size)}, "
            f"{recipe.name} needs {(recipe.num_units, recipe.feature_size)}",
            hint="(number of units, feature size)",
        )
    layer, encoder = (quantizer.metadata.get(name) for name in ("layer", "encoder"))
    if layer is not None and layer != str(recipe.layer):
        raise ConversionError(
            f"the centroids in {place} are of layer {layer}, {recipe.name} needs layer {recipe.layer}"
        )
    if encoder is not None and encoder != recipe.encoder and has_entry("encoder", encoder):
        raise ConversionError(f"the centroids in {place} are of {encoder}, {recipe.name} needs {recipe.encoder}")


def _is_published(kind: Kind, name: str, sha256: Any, place: str | Path, recipe: ProcessorRecipe) -> bool:
    """Whether a digest is the catalogue's for this name; that of another name is an error."""
    known = {entry.file.sha256: entry.name for entry in entries_of(kind) if entry.file.sha256 is not None}
    found = known.get(sha256) if isinstance(sha256, str) else None
    if found is not None and found != name:
        raise ConversionError(
            f"the {kind} in {place} was made of the published {found}, {recipe.name} needs {name}",
            hint="sizes alone do not show it: several published files have the same",
        )
    return found == name
