"""Files of a base, and bases that are stock models of transformers."""

from __future__ import annotations

from typing import Any

from transformers.utils.hub import extract_commit_hash

from ..core.errors import AdapterError
from .adapter_files import find_file
from .modeling_unit_causal_lm import UnitCausalLMForCausalLM
from .stock_unit_lm import TOKENISER_FILE, is_stock_unit_lm, model_fields, read_stock_unit_lm
from .stock_unit_lm_weights import StockWeights, load_wrapped, open_safetensors
from .unit_causal_lm_families import FAMILIES
from .untrusted import check_config_values, read_config_file

__all__ = ["load_stock_base", "weight_files"]


def weight_files(name: str, hub: dict[str, Any]) -> list[str]:
    """`model.safetensors` of a base, or its shards.

    Args:
        name (`str`): folder or Hub id.
        hub (`dict`): where and how files are found.

    Raises:
        AdapterError: the index of the shards is damaged, or the Hub cannot be reached.
    """
    whole = find_file(name, "model.safetensors", what="the base", **hub)
    if whole is not None:
        return [whole]
    index = find_file(name, "model.safetensors.index.json", what="the base", **hub)
    parts = read_config_file(index).get("weight_map") if index is not None else {}
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise AdapterError(f"weight_map in model.safetensors.index.json of {name} is no object of file names")
    found = [find_file(name, part, what="the base", **hub) for part in sorted(set(parts.values()))]
    return [path for path in found if path is not None]


def load_stock_base(
    name: str, values: dict[str, Any], path: str | None, attn_implementation: str | None, hub: dict[str, Any]
) -> UnitCausalLMForCausalLM | None:
    """A base made in memory of an untouched stock model, whose files say which of its tokens are units.

    Args:
        name (`str`): folder or Hub id.
        values (`dict`): the content of config.json.
        path (`str`, *optional*): where config.json lies; in the Hub's cache this names the commit.
        attn_implementation (`str`, *optional*): `"sdpa"` or `"eager"`.
        hub (`dict`): where and how files are found.

    Returns:
        `UnitCausalLMForCausalLM | None`: in float32; `None` where the name is no such model's.

    Raises:
        AdapterError: it is a stock model, but its units are not known, or its weights are no safetensors.
        ConfigurationError: its configuration or its weights are damaged, or cannot be wrapped.
    """
    if not is_stock_unit_lm(values):
        if isinstance(values.get("model_type"), str) and values["model_type"] in FAMILIES:
            raise _not_as_it_is(name, f"is a stock {values['model_type']} whose config.json names no offset of units")
        return None
    check_config_values({"lm_config": model_fields(values.get("base_config", values))}, name)
    said = find_file(name, TOKENISER_FILE, what="the base", **hub)
    stock = read_stock_unit_lm(values, name, tokeniser=None if said is None else read_config_file(said))
    files = weight_files(name, hub)
    if not files:
        raise _not_as_it_is(name, "is a stock language model without safetensors")
    with open_safetensors(files) as tensors:
        lm = load_wrapped(StockWeights(stock, tensors, name), attn_implementation)
    lm.config._name_or_path = name
    lm.config._commit_hash = extract_commit_hash(path, None)
    return lm


def _not_as_it_is(name: str, what: str) -> AdapterError:
    return AdapterError(
        f"{name} {what}, so it is no base as it is",
        hint="make one of it: speechprompt_hf.convert.causal_lm.wrap_causal_lm(folder, new_folder, unit_offset=…)",
    )
