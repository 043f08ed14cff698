"""A converted language model and a processor become one base that recordings can be trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from ..core.vocabulary import UnitVocabulary
from ..processors.processing_speech_units import SpeechUnitProcessor
from ..processors.tokenization_units import UnitTokenizer
from .errors import ConversionError
from .new_folder import new_folder

__all__ = ["join_base"]

_DICTIONARY = "dict.txt"


def join_base(language_model: str | Path, processor: str | Path, destination: str | Path) -> dict[str, Any]:
    """Put a language model and what makes its units into one folder.

    The order of the units is the language model's. Its `config.json` gets the processor's fingerprint, so that units
    of another encoder or quantizer are refused from then on. Nothing in a language model says which units it was
    trained on: that the two belong together is the caller's word.

    Args:
        language_model (`str | Path`): what `convert_gslm` or `convert_unit_mbart` wrote.
        processor (`str | Path`): what `build_processor` wrote, or another folder with a processor and its encoder.
        destination (`str | Path`): the new folder, a base for `speechprompt train --base`.

    Returns:
        `dict`: `output`, `units`, and `digest` of the units' fingerprint.

    Raises:
        ConversionError: the folder holds no language model with a dictionary, or the two have different numbers of
            units.
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
