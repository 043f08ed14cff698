"""Stock causal language models over units, of TWIST, slamkit and their kin → folders of `UnitCausalLMForCausalLM`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.conversion import CONVERSION_FILE
from ..core.digest import sha256_of_file
from ..core.errors import ConfigurationError
from ..core.files import write_json, write_text
from ..core.vocabulary import UnitVocabulary
from ..modeling.stock_unit_lm import TOKENISER_FILE, read_stock_unit_lm
from ..modeling.stock_unit_lm_weights import StockTensor, StockWeights, unit_generation_config
from .checkpoint_weights import DTYPES
from .errors import ConversionError
from .file_kinds import kind_of_file
from .new_folder import new_folder
from .places import no_folder
from .stock_weights import open_stock_weights, read_stock_json, stock_weight_files
from .weights_file import PendingTensor, write_weights

__all__ = ["wrap_causal_lm"]


def wrap_causal_lm(
    source: str | Path,
    destination: str | Path,
    *,
    unit_offset: int | None = None,
    num_units: int | None = None,
    start_token_id: int | None = None,
    end_token_id: int | None = None,
    dtype: Literal["float32", "float16"] = "float32",
) -> dict[str, Any]:
    """Make a base of a language model that transformers or slamkit saved; nothing in it is executed.

    The rows of embedding and output head are put into the order of `UnitVocabulary`, as `StockWeights` says; all
    other weights stay as they are.

    Args:
        source (`str | Path`): a folder with `config.json` and weights, of safetensors or `torch.save`. TWIST's
            configuration names the `offset` of units, slamkit's the special tokens before them.
        destination (`str | Path`): the new folder: `config.json`, `generation_config.json`, `model.safetensors`,
            `dict.txt` with the units in numeric order, and `conversion.json`, which says what became of what and
            has the SHA-256 of every file of weights.
        unit_offset (`int`, *optional*): token of unit 0, where no file says it.
        num_units (`int`, *optional*): units; all tokens from the offset on by default.
        start_token_id (`int`, *optional*): the token before the first unit, where no file says it; a stock
            configuration's `bos_token_id` does not.
        end_token_id (`int`, *optional*): the token after the last unit, where no file says it; the separator starts as
            its vector. `start_token_id` by default.
        dtype (`str`, defaults to `"float32"`): precision of the weights.

    Returns:
        `dict`: the content of `conversion.json`, and `output`.

    Warns:
        UserWarning: the offset was given, and the configuration names a token before or after an utterance beside the
            units that neither file nor caller said.

    Raises:
        ConversionError: a file is damaged, hostile, or of an architecture that cannot be wrapped, or the offset is not
            known; nothing is left behind.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}", hint="float32 or float16")
    folder = Path(source)
    if not folder.is_dir():
        kind = kind_of_file(folder)
        seems = f"it seems to be {kind.text}: {kind.hint}; else " if kind is not None and kind.kind is not None else ""
        raise ConversionError(no_folder(source), hint=f"{seems}give a folder that transformers saved")
    tokeniser = folder / TOKENISER_FILE
    with _conversion_errors():
        stock = read_stock_unit_lm(
            read_stock_json(folder / "config.json"),
            str(folder),
            tokeniser=read_stock_json(tokeniser) if tokeniser.is_file() else None,
            unit_offset=unit_offset,
            num_units=num_units,
            start_token_id=start_token_id,
            end_token_id=end_token_id,
        )
        with new_folder(destination) as target, open_stock_weights(folder) as tensors:
            weights = StockWeights(stock, tensors, str(folder))
            pending = {name: _pending(part, DTYPES[dtype], folder) for name, part in weights.parts.items()}
            write_weights(target / "model.safetensors", pending, DTYPES[dtype])
            weights.config.dtype = dtype
            weights.config.save_pretrained(target)
            unit_generation_config(weights.config).save_pretrained(target)
            write_text(target / "dict.txt", UnitVocabulary.from_num_units(stock.num_units).to_dict_txt())
            record = {
                "source": folder.name,
                "source_sha256": {path.name: sha256_of_file(path) for path in stock_weight_files(folder)},
                "kind": stock.kind,
                "architecture": stock.family.model_type,
                "dtype": dtype,
                "units": stock.num_units,
                "unit_offset": stock.unit_offset,
                "unit_offset_from": stock.offset_from,
                "start_token_id": stock.start_token_id,
                "end_token_id": stock.start_token_id if stock.end_token_id is None else stock.end_token_id,
                "pad_token_id": stock.pad_token_id,
                "special_tokens_not_used": stock.special_tokens_not_used,
                "parameters": sum(math.prod(tensor.shape) for tensor in pending.values()),
                "rows_left_out": weights.num_rows - stock.num_units - len(stock.special_tokens),
                "dropouts_set_to_0": sorted(stock.family.zero),
                "keys_left_out": weights.left_out,
            }
            write_json(target / CONVERSION_FILE, record)
    given = {"bos_token_id": start_token_id, "eos_token_id": end_token_id, "pad_token_id": stock.pad_token_id}
    answered = {"pad_token_id", *(what for what, token in given.items() if token is not None)}
    unused = stock.special_tokens_not_used.items()
    # Among the units are defaults of the architecture.
    named = {what: token for what, token in unused if what not in answered and token not in stock.units}
    if named and stock.offset_from == "unit_offset":
        warnings.warn(
            f"config.json of {source} names {named}, which are not used: if the model was "
            "trained with a token before or after an utterance, pass start_token_id (--start-token-id) or "
            "end_token_id (--end-token-id, which is that at the start by default)",
            UserWarning,
            stacklevel=2,
        )
    return {"output": str(destination), **record}


@contextmanager
def _conversion_errors() -> Iterator[None]:
    """What is wrong with a stock model is a `ConversionError` here."""
    try:
        yield
    except ConfigurationError as error:
        raise ConversionError(Exception.__str__(error), hint=error.hint) from error


def _pending(part: StockTensor, dtype: torch.dtype, folder: Path) -> PendingTensor:
    def rounded() -> Tensor:
        values = part.read().to(dtype)
        if not bool(torch.isfinite(values).all()):
            raise ConversionError(f"{part.key} of {folder} holds values beyond {dtype}", hint="choose float32")
        return values

    read: Callable[[], Tensor] = rounded
    return PendingTensor(part.shape, read)
