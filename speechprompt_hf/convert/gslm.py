"""Unit language models of fairseq (`transformer_lm_big` and its kin) → folders that `GSLMForCausalLM` opens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.errors import VocabularyError
from ..core.files import write_json
from ..core.vocabulary import SPECIAL_TOKENS, UnitVocabulary
from ..modeling.configuration_gslm import GSLMConfig
from .checkpoint_weights import DTYPES, check_repeats, checked_content, weight_reader
from .dictionary_file import padded_size, read_symbols
from .errors import ConversionError
from .fairseq_settings import LanguageModelSettings, read_language_model_settings
from .file_kinds import expecting
from .gslm_keys import GslmPlan, plan_gslm
from .new_folder import new_folder
from .torch_file import TorchFile, open_torch_file
from .weights_file import PendingTensor, write_weights

__all__ = ["convert_gslm"]

_MAX_TABLE = 2**31


def convert_gslm(
    source: str | Path,
    destination: str | Path,
    dictionary: str | Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> dict[str, Any]:
    """Make a `GSLMForCausalLM` folder of a fairseq checkpoint; nothing in it is executed.

    Args:
        source (`str | Path`): for example `checkpoint_best.pt`.
        destination (`str | Path`): the new folder: `config.json`, `generation_config.json`, `model.safetensors`,
            `dict.txt` as given, and `conversion.json`, which says what became of what.
        dictionary (`str | Path`): fairseq's `dict.txt`, which gives the order of the units.
        dtype (`str`, defaults to `"float32"`): precision of the weights.

    Returns:
        `dict`: the content of `conversion.json`, and `output`.

    Raises:
        ConversionError: a file is damaged, hostile, of another architecture or vocabulary; nothing is left behind.
        VocabularyError: a line of the dictionary is no unit.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}", hint="float32 or float16")
    with expecting("gslm", source), new_folder(destination) as folder, open_torch_file(source) as file:
        text, vocabulary, num_symbols = _read_dictionary(Path(dictionary))
        content, state = checked_content(file)
        settings = read_language_model_settings(content, file.name)
        plan = plan_gslm(state, settings, len(vocabulary), file.name)
        _check_rows(plan.num_rows, len(SPECIAL_TOKENS) + num_symbols, str(dictionary), file.name)
        _check_version(plan, file)
        check_repeats(
            file,
            plan.parts["model.embed_tokens.weight"].key,
            plan.equal_to_embedding,
            hint="the settings say that they are one",
        )
        config = _config(settings, len(vocabulary), dtype)
        pending = {
            target: PendingTensor(
                part.shape,
                weight_reader(file, part.key, part.tensor, DTYPES[dtype], slice(part.start, part.stop)),
            )
            for target, part in plan.parts.items()
        }
        write_weights(folder / "model.safetensors", pending, DTYPES[dtype])
        _write_configs(config, folder)
        (folder / "dict.txt").write_bytes(text)
        record = {
            "source": Path(source).name,
            "source_sha256": sha256_of_file(source),
            "architecture": settings.architecture,
            "dtype": dtype,
            "units": vocabulary.num_units,
            "parameters": sum(math.prod(part.shape) for part in plan.parts.values()),
            "padded_rows_left_out": plan.num_rows - len(vocabulary),
            "keys_left_out": plan.left_out,
            "entries_left_out": sorted(str(key)[:100] for key in content if key != "model"),
        }
        write_json(folder / CONVERSION_FILE, record)
    return {"output": str(destination), **record}


def _read_dictionary(path: Path) -> tuple[bytes, UnitVocabulary, int]:
    """The file's bytes, the units in its order, and its number of symbols, made-up ones included."""
    symbols = read_symbols(path)
    try:
        return path.read_bytes(), UnitVocabulary.from_dict_txt(path), len(symbols)
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {Exception.__str__(error)}", hint=error.hint) from error
    except ValueError as error:
        raise ConversionError(f"{path} is no dictionary of units: {error}"[:300]) from error


def _check_rows(num_rows: int, num_tokens: int, dictionary: str, name: str) -> None:
    if num_rows not in (num_tokens, padded_size(num_tokens)):
        raise ConversionError(
            f"decoder.embed_tokens.weight in {name} has {num_rows} rows, but {dictionary} makes {num_tokens} tokens",
            hint="the dictionary belongs to another checkpoint: a dict.txt has as many lines as its model has rows, "
            "less the four special tokens",
        )


def _check_version(plan: GslmPlan, file: TorchFile) -> None:
    """To fairseq an absent version is 1, and below 3 the layers end without a normalization."""
    found = None
    if plan.version is not None and plan.version.shape == (1,):
        found = float(file.read(plan.version)[0])
    if found != 3.0:
        raise ConversionError(
            f"decoder.version in {file.name} is {found}, not 3",
            hint="models of older versions end without a normalization, which GSLM has",
        )


def _config(settings: LanguageModelSettings, num_tokens: int, dtype: str) -> GSLMConfig:
    return GSLMConfig(
        vocab_size=num_tokens,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        intermediate_size=settings.intermediate_size,
        # Only the length of a table that grows: more than can be opened is of no use.
        max_position_embeddings=min(settings.max_positions, _MAX_TABLE // settings.hidden_size),
        activation_function=settings.activation,
        dropout=settings.dropout,
        attention_dropout=settings.attention_dropout,
        activation_dropout=settings.activation_dropout,
        scale_embedding=settings.scales_embedding,
        tie_word_embeddings=settings.is_tied,
        architectures=["GSLMForCausalLM"],
        dtype=dtype,
    )


def _write_configs(config: GSLMConfig, folder: Path) -> None:
    from transformers import GenerationConfig

    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
