"""fairseq's `mbart_large` over units → folders that `UnitMBartForConditionalGeneration` opens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.files import write_json
from ..modeling.configuration_unit_mbart import UnitMBartConfig
from .checkpoint_weights import DTYPES, check_repeats, checked_content, weight_reader
from .errors import ConversionError
from .file_kinds import expecting
from .new_folder import new_folder
from .torch_file import TorchFile, open_torch_file
from .unit_mbart_keys import EMBEDDING, MBartPart, UnitMBartPlan, plan_unit_mbart
from .unit_mbart_settings import UnitMBartSettings, read_unit_mbart_settings
from .unit_mbart_vocabulary import MBartDictionary, MBartRows, find_rows, read_mbart_dictionary
from .weights_file import PendingTensor, write_weights

__all__ = ["convert_unit_mbart"]

_TASKS_WITH_MASK = ("multilingual_denoising", "translation_from_pretrained_bart")


def convert_unit_mbart(
    source: str | Path,
    destination: str | Path,
    dictionary: str | Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    languages: Sequence[str] | None = None,
    inner_eos: bool = True,
) -> dict[str, Any]:
    """Make a `UnitMBartForConditionalGeneration` folder of a fairseq checkpoint; nothing in it is executed.

    What the file says is decided from the file: sizes, order of the layers' normalizations, length of the tables of
    positions, languages and their order, whether there is a mask. One thing no file says: whether `</s>` stands
    between the units and the language. It does where the training data were made with fairseq's own defaults.

    Args:
        source (`str | Path`): for example `checkpoint.pt`.
        destination (`str | Path`): the new folder: `config.json`, `generation_config.json`, `model.safetensors`,
            `dict.txt` with the units, and `conversion.json`, which says what became of what and what was found.
        dictionary (`str | Path`): fairseq's `dict.txt`, which gives the order of the units.
        dtype (`str`, defaults to `"float32"`): precision of the weights.
        languages (`Sequence[str]`, *optional*): in the order of pretraining, for a file that does not name them.
        inner_eos (`bool`, defaults to `True`): utterances were trained on as `<s>`, units, `</s>`, `[language]`.

    Returns:
        `dict`: the content of `conversion.json`, and `output`.

    Raises:
        ConversionError: a file is damaged, hostile, of another architecture or vocabulary; nothing is left behind.
        VocabularyError: a line of the dictionary is no unit.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}", hint="float32 or float16")
    if isinstance(languages, str):
        raise ConversionError(f"languages is {languages!r}", hint="a list of names")
    with expecting("unit-mbart", source), new_folder(destination) as folder, open_torch_file(source) as file:
        symbols = read_mbart_dictionary(Path(dictionary))
        content, state = checked_content(file)
        settings = read_unit_mbart_settings(content, file.name)
        plan = plan_unit_mbart(state, settings, file.name)
        names = _languages(settings, languages, file.name)
        may_lack_mask = settings.task not in _TASKS_WITH_MASK
        rows = find_rows(symbols, plan.num_rows, names, file.name, may_lack_mask=may_lack_mask)
        _check_versions(plan, file)
        check_repeats(file, plan.parts[EMBEDDING].key, plan.equal_to_embedding, hint="in a Unit mBART they are one")
        config = _config(settings, plan, symbols, rows, dtype, inner_eos)
        kept = rows.parts(symbols.vocabulary.num_units)
        pending = {
            f"model.{target}": _pending(file, part, DTYPES[dtype], kept if target == EMBEDDING else None)
            for target, part in plan.parts.items()
        }
        write_weights(folder / "model.safetensors", pending, DTYPES[dtype])
        _write_configs(config, folder)
        (folder / "dict.txt").write_text(_units_only(symbols), encoding="utf-8")
        record = {
            "source": Path(source).name,
            "source_sha256": sha256_of_file(Path(source)),
            "architecture": settings.architecture,
            "settings_found_in": settings.place,
            "task": settings.task,
            "dtype": dtype,
            "units": symbols.vocabulary.num_units,
            "languages": list(rows.languages),
            "has_mask": rows.has_mask,
            "vocab_size": config.vocab_size,
            "normalize_before": plan.normalizes_before,
            "max_positions": plan.max_positions,
            "inner_eos": inner_eos,
            "assumed": ["inner_eos: whether </s> stands before [language] is not in the file"],
            "starts_and_stops_with": f"[{rows.languages[0]}]",
            "noise": settings.noise,
            "parameters": sum(math.prod(tensor.shape) for tensor in pending.values()),
            "padded_rows_left_out": rows.num_padded,
            "keys_left_out": plan.left_out,
            "entries_left_out": sorted(str(key)[:100] for key in content if key != "model"),
        }
        write_json(folder / CONVERSION_FILE, record)
    return {"output": str(destination), **record}


def _languages(settings: UnitMBartSettings, given: Sequence[str] | None, name: str) -> list[str] | None:
    if not settings.has_language_tokens:
        raise ConversionError(
            f"{name} has add_lang_token False: no language has a token",
            hint="a Unit mBART starts and stops with the token of a language",
        )
    if settings.languages is None or given is None:
        found = settings.languages if given is None else given
        return None if found is None else list(found)
    if list(given) != list(settings.languages):
        raise ConversionError(
            f"languages is {', '.join(given)}, but {name} names {', '.join(settings.languages)}"[:300],
            hint="leave languages (--language) out",
        )
    return list(given)


def _check_versions(plan: UnitMBartPlan, file: TorchFile) -> None:
    """To fairseq an absent version is 1, and below 3 (encoder: 2) the stacks end without their normalizations."""
    if not plan.normalizes_before:
        return
    for key, least in (("encoder.version", 2.0), ("decoder.version", 3.0)):
        tensor, found = plan.versions.get(key), None
        if tensor is not None and tuple(tensor.shape) == (1,):
            found = float(file.read(tensor)[0])
        if found is None or not least <= found <= 3.0:
            raise ConversionError(
                f"{key} in {file.name} is {found}, not 3",
                hint="models of older versions end without the normalization that the file holds",
            )


def _pending(file: TorchFile, part: MBartPart, dtype: torch.dtype, kept: list[slice] | None) -> PendingTensor:
    """A weight, or only the rows `kept` of it."""
    if kept is None:
        return PendingTensor(part.shape, weight_reader(file, part.key, part.tensor, dtype, part.rows))
    whole = weight_reader(file, part.key, part.tensor, dtype)
    num_rows = sum(rows.stop - rows.start for rows in kept)
    return PendingTensor((num_rows, *part.shape[1:]), _rows_reader(whole, kept))


def _rows_reader(read: Callable[[], Tensor], kept: list[slice]) -> Callable[[], Tensor]:
    def read_rows() -> Tensor:
        values = read()
        return torch.cat([values[rows] for rows in kept])

    return read_rows


def _config(
    settings: UnitMBartSettings,
    plan: UnitMBartPlan,
    symbols: MBartDictionary,
    rows: MBartRows,
    dtype: str,
    inner_eos: bool,
) -> UnitMBartConfig:
    num_units = symbols.vocabulary.num_units
    return UnitMBartConfig(
        vocab_size=sum(part.stop - part.start for part in rows.parts(num_units)),
        num_units=num_units,
        languages=list(rows.languages),
        has_mask=rows.has_mask,
        inner_eos=inner_eos,
        hidden_size=settings.hidden_size,
        num_encoder_layers=settings.num_encoder_layers,
        num_hidden_layers=settings.num_decoder_layers,
        num_attention_heads=settings.num_heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=plan.max_positions,
        activation_function=settings.activation,
        dropout=settings.dropout,
        attention_dropout=settings.attention_dropout,
        activation_dropout=settings.activation_dropout,
        normalize_before=plan.normalizes_before,
        scale_embedding=settings.scales_embedding,
        architectures=["UnitMBartForConditionalGeneration"],
        dtype=dtype,
    )


def _write_configs(config: UnitMBartConfig, folder: Path) -> None:
    from ..modeling.unit_mbart_generation import generation_config

    config.save_pretrained(folder)
    generation_config(config).save_pretrained(folder)


def _units_only(symbols: MBartDictionary) -> str:
    """The units' lines as they are given, without made-up words, languages and mask."""
    lines = Path(symbols.name).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip()][: symbols.vocabulary.num_units]
    return "".join(f"{line}\n" for line in lines)
