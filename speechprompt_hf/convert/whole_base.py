"""A language model and a processor become one base that recordings can be trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core.conversion import CONVERSION_FILE
from ..core.errors import AdapterError, ConfigurationError
from ..core.files import read_json, write_json
from ..core.vocabulary import UnitVocabulary
from ..modeling.base_files import weight_files
from ..modeling.base_loading import load_base
from ..modeling.bases import base_class
from ..modeling.configuration_speechprompt import SpeechPromptConfig
from ..modeling.stock_unit_lm import is_stock_unit_lm
from ..modeling.unit_causal_lm_families import FAMILIES
from ..processors.processing_speech_units import SpeechUnitProcessor
from ..processors.quantizer import Quantizer
from ..processors.tokenization_units import UnitTokenizer
from ..processors.unit_encoder import ENCODER_FOLDER, UnitEncoder
from .catalogue import entries_of, has_entry
from .catalogue_types import Kind
from .causal_lm import wrap_causal_lm
from .errors import ConversionError
from .new_folder import new_folder
from .places import no_folder

__all__ = ["check_language_model", "join_base", "wrap_base"]

_DICTIONARY = "dict.txt"
_WRITTEN = "give what speechprompt convert gslm, unit-mbart or causal-lm wrote"
_KINDS: dict[str, Kind] = {"gslm": "gslm", "unit_mbart": "unit-mbart"}
"""Language models of the catalogue by their `model_type`."""


def join_base(language_model: str | Path, processor: str | Path, destination: str | Path) -> dict[str, Any]:
    """Put a language model and what makes its units into one folder.

    The order of the units is the language model's. Its `config.json` gets the processor's fingerprint, so that units
    of another encoder or quantizer are refused from then on. A language model that was converted by a name of the
    catalogue was trained on the units that the catalogue says; what the processor records of its encoder, layer and
    quantizer must agree with that. For any other language model, that the two belong together is the caller's word.

    Args:
        language_model (`str | Path`): what `convert_gslm`, `convert_unit_mbart` or `wrap_causal_lm` wrote.
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
    check_language_model(source)
    parts = _processor(processor)
    vocabulary = UnitVocabulary.from_dict_txt(source / _DICTIONARY)
    _check_num_units(source, vocabulary, processor, parts)
    _check_units(source, Path(processor), parts.unit_encoder)
    with new_folder(destination) as folder:
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                shutil.copyfile(path, folder / path.name)
        digest = _add_processor(folder, vocabulary, parts)
    return {"output": str(destination), "units": vocabulary.num_units, "digest": digest}


def wrap_base(
    source: str | Path, destination: str | Path, *, processor: str | Path | None = None, **options: Any
) -> dict[str, Any]:
    """Make a base of a stock language model of transformers or slamkit, with what makes its units if that is given.

    That the two belong together is the caller's word; only the number of units is compared.

    Args:
        source (`str | Path`): as in `wrap_causal_lm`.
        destination (`str | Path`): the new folder, a base for `speechprompt train --base`.
        processor (`str | Path`, *optional*): as in `join_base`; without it the base reads units.
        options: further keywords of `wrap_causal_lm`.

    Returns:
        `dict`: what `wrap_causal_lm` returns; with a processor also `digest` of the units' fingerprint.

    Raises:
        ConversionError: the language model cannot be wrapped, or has another number of units than the processor;
            nothing is left behind.
        ConfigurationError: the processor cannot be read.
    """
    if processor is None:
        return wrap_causal_lm(source, destination, **options)
    parts = _processor(processor)
    with new_folder(destination) as folder:
        wrapped = folder / "wrapped"
        result = wrap_causal_lm(source, wrapped, **options)
        vocabulary = UnitVocabulary.from_dict_txt(wrapped / _DICTIONARY)
        _check_num_units(source, vocabulary, processor, parts)
        for path in sorted(wrapped.iterdir()):
            path.rename(folder / path.name)
        wrapped.rmdir()
        digest = _add_processor(folder, vocabulary, parts)
    return {**result, "output": str(destination), "digest": digest}


def check_language_model(folder: str | Path) -> str:
    """Refuse a folder that is none of a converted language model.

    Of its weights the headers are read, and compared with the sizes in `config.json`.

    Args:
        folder (`str | Path`): what the user gave.

    Returns:
        `str`: the `model_type` in its `config.json`.

    Raises:
        ConversionError: there is no such folder, a file is missing, damaged or of another model, or it holds a stock
            language model, an adapter, or another kind of model.
    """
    source = Path(folder)
    if not source.is_dir():
        raise ConversionError(no_folder(source), hint=_WRITTEN)
    if not (source / "config.json").is_file():
        raise ConversionError(f"{source} has no config.json", hint=_WRITTEN)
    values = _json(source / "config.json")
    model_type = str(values.get("model_type"))
    if model_type in FAMILIES or is_stock_unit_lm(values):
        raise ConversionError(
            f"{source} holds a language model of transformers ({model_type[:60]}), not a converted one",
            hint=f"speechprompt convert causal-lm {source} NEW_FOLDER --processor PROCESSOR makes a base of both",
        )
    if base_class(model_type) is None:
        what = "an adapter" if model_type == SpeechPromptConfig.model_type else f"a model of type {model_type[:60]!r}"
        raise ConversionError(f"{source} holds {what}, no language model over units", hint=_WRITTEN)
    if not (source / _DICTIONARY).is_file():
        raise ConversionError(f"{source} has no {_DICTIONARY}", hint=_WRITTEN)
    _check_weights(source)
    return model_type


def _check_weights(source: Path) -> None:
    """Refuse weights that `train --base` would refuse; only their headers are read."""
    try:
        if not weight_files(str(source), {}):
            raise ConversionError(f"{source} has no model.safetensors", hint=_WRITTEN)
        load_base(source, device_map="meta")
    except AdapterError as error:
        raise ConversionError(Exception.__str__(error), hint=error.hint) from error


def _processor(folder: str | Path) -> SpeechUnitProcessor:
    """What makes units, opened."""
    if not Path(folder).is_dir():
        raise ConfigurationError(no_folder(folder), hint="give what speechprompt convert processor wrote")
    if not (Path(folder) / "processor_config.json").is_file():
        raise ConfigurationError(
            f"{folder} has no processor_config.json", hint="give what speechprompt convert processor wrote"
        )
    return SpeechUnitProcessor.from_pretrained(folder)


def _check_num_units(
    source: str | Path, vocabulary: UnitVocabulary, processor: str | Path, parts: SpeechUnitProcessor
) -> None:
    # Those of prosody included, where they stand between the others.
    made = parts.tokenizer.vocabulary.num_units
    if vocabulary.num_units != made:
        raise ConversionError(
            f"the language model in {source} has {vocabulary.num_units} units, the processor in {processor} makes "
            f"{made}",
            hint="speechprompt convert --list says what belongs together; of a language model whose vocabulary has "
            "further tokens behind the units say num_units (--num-units)",
        )


def _add_processor(folder: Path, vocabulary: UnitVocabulary, parts: SpeechUnitProcessor) -> str:
    """Put what makes units beside a language model; returns the digest of the units' fingerprint."""
    prosody, encoder = parts.prosody, parts.unit_encoder
    joined = SpeechUnitProcessor.from_unit_encoder(
        encoder,
        UnitTokenizer(vocabulary=vocabulary),
        None if prosody is None else prosody.load(encoder),
        interleaved=prosody is not None and prosody.interleaved,
    )
    # As the language model has it, with its counts.
    dictionary = (folder / _DICTIONARY).read_bytes()
    joined.save_pretrained(folder, save_encoder=True)
    (folder / _DICTIONARY).write_bytes(dictionary)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "fingerprint": joined.fingerprint})
    return str(joined.fingerprint["digest"])


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
