"""Units that nobody published: an encoder and a quantizer of one's own, and what their files say."""

from __future__ import annotations

from pathlib import Path

from ..core.conversion import CONVERSION_FILE
from ..core.files import read_json
from ..processors.feature_extraction_speech_units import NORMALIZATIONS
from ..processors.unit_encoder import ENCODER_FOLDER
from .catalogue import entries_of
from .encoder import read_quantizer
from .errors import ConversionError
from .part_folders import check_quantizer_place, conversion_record, encoder_place, frame_rate_of, hubert_config
from .recipes import RECIPES, ProcessorRecipe

__all__ = ["recipe_of_own"]


def recipe_of_own(
    name: str,
    encoder_folder: str | Path,
    quantizer_folder: str | Path,
    layer: int,
    *,
    normalization: str | None = None,
) -> ProcessorRecipe:
    """The recipe of an encoder and a quantizer that nobody published, for `build_processor`.

    Args:
        name (`str`): how the units are called; not the name of a published recipe.
        encoder_folder (`str | Path`): as in `build_processor`.
        quantizer_folder (`str | Path`): as in `build_processor`.
        layer (`int`): whose features the quantizer divides, an index into `hidden_states`.
        normalization (`str`, *optional*): how recordings are scaled; by default what the encoder's `conversion.json`
            says, else its `preprocessor_config.json`.

    Raises:
        ConversionError: the name is that of a published recipe, the encoder is no HuBERT, or nothing says how
            recordings are scaled, or something else than was given.
        ConfigurationError: a file is absent or damaged.
    """
    if any(recipe.name == name for recipe in RECIPES):
        raise ConversionError(
            f"{name} is the name of published units, whose layer is known",
            hint="leave the layer out, or give units of your own another name",
        )
    check_quantizer_place(quantizer_folder)
    place = encoder_place(Path(encoder_folder))
    frame_rate = frame_rate_of(hubert_config(name, place), place)
    quantizer = read_quantizer(quantizer_folder)
    return ProcessorRecipe(
        name=name,
        encoder=_encoder_name(place),
        layer=layer,
        num_units=quantizer.num_units,
        frame_rate=frame_rate,
        feature_size=quantizer.feature_size,
        normalization=_normalization_of(place, normalization),
    )


def _encoder_name(place: Path) -> str:
    """The catalogue's name of what an encoder was converted from; else that of its source; else the folder's."""
    record = conversion_record(place)
    source, sha256 = record.get("source"), record.get("source_sha256")
    published = {entry.file.sha256: entry.name for entry in entries_of("encoder") if entry.file.sha256 is not None}
    if isinstance(sha256, str) and sha256 in published:
        return published[sha256]
    if isinstance(source, str) and source:
        return Path(source).stem
    is_part = place.name == ENCODER_FOLDER and (place.parent / "processor_config.json").is_file()
    return place.parent.name if is_part else place.name


def _normalization_of(place: Path, given: str | None) -> str:
    """How an encoder's recordings are scaled: its checkpoint's word, else the caller's, else its preprocessor's."""
    if given is not None and given not in NORMALIZATIONS:
        raise ConversionError(f"normalization is {given!r}", hint=f"one of {', '.join(NORMALIZATIONS)}")
    recorded = conversion_record(place).get("normalization")
    if recorded is not None:
        if given not in (None, recorded):
            raise ConversionError(f"normalization is {given!r}, but the checkpoint of {place} says {recorded!r:.60}")
        return str(recorded)
    if given is not None:
        return given
    path = place / "preprocessor_config.json"
    settings = read_json(path) if path.is_file() else {}
    scales = settings.get("do_normalize") if isinstance(settings, dict) else None
    if not isinstance(scales, bool):
        raise ConversionError(
            f"nothing says how recordings are scaled for the encoder in {place}: it has no {CONVERSION_FILE}, and no "
            "do_normalize in preprocessor_config.json",
            hint="give the normalization: none for HuBERT base, zero_mean_unit_variance for large models",
        )
    return "zero_mean_unit_variance" if scales else "none"
