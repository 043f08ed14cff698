"""Folders of the parts that a processor is made of: what they say before any weight is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.conversion import CONVERSION_FILE
from ..core.files import read_json
from ..processors.quantizer import QUANTIZER_FILE
from ..processors.unit_encoder import ENCODER_FOLDER
from .errors import ConversionError
from .places import no_folder

__all__ = ["check_quantizer_place", "conversion_record", "encoder_place", "frame_rate_of", "hubert_config"]


def encoder_place(folder: Path) -> Path:
    """The encoder itself, also where the folder of a processor was given.

    Raises:
        ConversionError: there is none.
    """
    if not folder.is_dir():
        raise ConversionError(no_folder(folder), hint="give the folder that convert encoder made")
    inner = folder / ENCODER_FOLDER
    place = inner if not (folder / "config.json").is_file() and inner.is_dir() else folder
    if not (place / "config.json").is_file():
        raise ConversionError(f"{folder} has no config.json", hint="give the folder that convert encoder made")
    return place.absolute()


def conversion_record(place: Path) -> dict[str, Any]:
    """What the conversion of an encoder recorded; empty where it was not converted.

    Raises:
        ConversionError: the file holds no object.
    """
    path = place / CONVERSION_FILE
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise ConversionError(f"{path} is no JSON object", hint="convert the encoder again")
    return values


def check_quantizer_place(place: str | Path) -> None:
    """Refuse what is not there, and a k-means that was not converted, before an encoder is read for it.

    Args:
        place (`str | Path`): folder with `quantizer.safetensors`, or that file.

    Raises:
        ConversionError: it is neither.
    """
    path = Path(place)
    if not path.exists():
        raise ConversionError(
            f"there is no quantizer {place}",
            hint=f"give the folder that speechprompt convert quantizer wrote, or its {QUANTIZER_FILE}",
        )
    if path.is_file() and path.suffix != ".safetensors":
        raise ConversionError(
            f"{place} is no {QUANTIZER_FILE}", hint=f"first: speechprompt convert quantizer {place} NEW_FOLDER"
        )


def hubert_config(name: str, place: Path) -> dict[str, Any]:
    """The configuration of an encoder.

    Args:
        name (`str`): of the units, for the message.
        place (`Path`): the encoder's folder.

    Raises:
        ConversionError: it is no HuBERT's.
    """
    config = read_json(place / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "hubert":
        found = config.get("model_type") if isinstance(config, dict) else config
        raise ConversionError(f"the encoder in {place} is {found!r}"[:300], hint=f"{name} needs a HuBERT")
    return config


def frame_rate_of(config: dict[str, Any], place: Path) -> float:
    """Frames a second, of a configuration.

    Raises:
        ConversionError: its strides are none.
    """
    strides = config.get("conv_stride")
    if not isinstance(strides, list) or not all(type(stride) is int and stride > 0 for stride in strides):
        raise ConversionError(f"the encoder in {place} has conv_stride {strides!r:.60}")
    return 16_000 / math.prod(strides)
