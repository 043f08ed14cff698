"""A converted language model and a processor become one base that recordings can be trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core.conversion import CONVERSION_FILE
from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from ..core.vocabulary import UnitVocabulary
from ..processors.processing_speech_units import SpeechUnitProcessor
from ..processors.quantizer import Quantizer
from ..processors.tokenization_units import UnitTokenizer
from ..processors.unit_encoder import ENCODER_FOLDER, UnitEncoder
from .catalogue import entries_of, has_entry
from .catalogue_types import Kind
from .errors import ConversionError
from .new_folder import new_folder

__all__ = ["join_base"]

_DICTIONARY = "dict.txt"
_KINDS: dict[str, Kind] = {"gslm": "gslm", "unit_mbart": "unit-mbart"}
"""Language models of the catalogue by their `model_type`."""


def join_base(language_model: str | Path, processor: str | Path, destination: str | Path) -> dict[str, Any]:
    """Put a language model and what makes its units into one folder.

    The order of the units is the language model's. Its `config.json` gets the processor's fingerprint, so that units
    of another encoder or quantizer are refused from then on. A language model that was converted by a name of the
    catalogue was trained on the units that the catalogue says; what the processor records of its encoder, layer and
    quantizer must agree with that. For any other language model, that the two belong together is the caller's word.

    Args:
        language_model (`str | Path`): what `convert_gslm` or `convert_unit_mbart` wrote.
        processor (`str | Path`): what `build_processor` wrote, or another folder with a processor and its encoder.
        destination (`str | Path`): the new folder, a base for `speechprompt train --base`.

    Returns:
        `dict`: `output`, `units`, and `digest` of the units' fingerprint.

    Raises:
        ConversionError: the folder holds no language model with a dictionary, the two have different numbers of units,
            or the catalogue says that the language model was trained on other units.
        ConfigurationError: the processor cannot be read.
    """
    source = Path(language_model)
    for name in ("config.json", _DICTIONARY):
        if not (source / name).is_file():
            raise ConversionError(f"{source} has no {name}", hint="give what speechprompt convert gslm wrote")
    if not (Path(processor) / "processor_config.json").is_file():
        raise ConfigurationError(
            f"{processor} has no processor_config.json", hint="give what speechprompt convert processor wrote"
        )
    parts = SpeechUnitProcessor.from_pretrained(processor)
    vocabulary = UnitVocabulary.from_dict_txt(source / _DICTIONARY)
    if vocabulary.num_units != parts.unit_encoder.num_units:
        raise ConversionError(
            f"the language model in {source} has {vocabulary.num_units} units, the processor in {processor} makes "
            f"{parts.unit_encoder.num_units}",
            hint="speechprompt convert --list says what belongs together",
        )
    _check_units(source, Path(processor), parts.unit_encoder)
    joined = SpeechUnitProcessor.from_unit_encoder(parts.unit_encoder, UnitTokenizer(vocabulary=vocabulary))
    with new_folder(destination) as folder:
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                shutil.copyfile(path, folder / path.name)
        joined.save_pretrained(folder, save_encoder=True)
        # As the language model has it, with its counts.
        shutil.copyfile(source / _DICTIONARY, folder / _DICTIONARY)
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", {**config, "fingerprint": joined.fingerprint})
    return {"output": str(destination), "units": vocabulary.num_units, "digest": joined.fingerprint["digest"]}


def _check_units(language_model: Path, processor: Path, encoder: UnitEncoder) -> None:
    """Refuse a processor that is known to make other units than the catalogue says of the language model."""
    named = _origin_name(language_model)
    kind = _KINDS.get(str(_json(language_model / "config.json").get("model_type")))
    entry = next((entry for entry in entries_of(kind) if entry.name == named), None) if kind is not None else None
    if entry is None:
        return
    origin = _origin_name(processor / ENCODER_FOLDER)
    listens = origin if origin is not None else encoder.description.encoder_id
    quantizer = _published_quantizer(encoder.quantizer)
    pairs = {
        "units": (entry.units, quantizer),
        "encoder": (entry.encoder, listens if has_entry("encoder", listens) else None),
        "layer": (entry.layer, encoder.description.layer),
    }
    for what, (needed, found) in pairs.items():
        # Units of an encoder that the catalogue does not have are of no layer that could be compared.
        if found is not None and found != needed and not (what == "layer" and needed is None):
            raise ConversionError(
                f"the language model in {language_model} is {named}, trained on units {entry.units} "
                f"({what}: {needed}), the processor in {processor} has {what} {found}",
                hint="speechprompt convert --list says what belongs together",
            )


def _published_quantizer(quantizer: Quantizer) -> str | None:
    """The name of the published centroids that a quantizer was made of, as far as its metadata say it."""
    sha256, url = (quantizer.metadata.get(name) for name in ("source_sha256", "url"))
    for entry in entries_of("quantizer"):
        if (sha256 is not None and sha256 == entry.file.sha256) or (url or "").endswith(f"/{entry.file.path}"):
            return entry.name
    return None


def _origin_name(folder: Path) -> str | None:
    """The name of the catalogue that a folder was converted by."""
    path = folder / CONVERSION_FILE
    origin = _json(path).get("origin") if path.is_file() else None
    name = origin.get("name") if isinstance(origin, dict) else None
    return name if isinstance(name, str) else None


def _json(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ConversionError(f"{path} is no JSON object", hint="convert it again")
    return values
