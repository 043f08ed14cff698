"""Files of a base, and bases that are stock models of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.utils.hub import extract_commit_hash

from ..core.errors import AdapterError
from .adapter_files import find_file
from .modeling_unit_causal_lm import UnitCausalLMForCausalLM
from .stock_unit_lm import TOKENISER_FILE, is_stock_unit_lm, model_fields, read_stock_unit_lm
from .stock_unit_lm_weights import StockWeights, load_wrapped, open_safetensors
from .unit_causal_lm_families import FAMILIES
from .untrusted import check_config_values, read_config_file

__all__ = ["load_stock_base", "shard_names", "weight_files"]

_INDEX = "model.safetensors.index.json"


def weight_files(name: str, hub: dict[str, Any]) -> list[str]:
    """`model.safetensors` of a base, or its shards.

    Args:
        name (`str`): folder or Hub id.
        hub (`dict`): where and how files are found.

    Raises:
        AdapterError: the index of the shards is damaged, a shard is missing, or the Hub cannot be reached.
    """
    whole = find_file(name, "model.safetensors", what="the base", **hub)
    if whole is not None:
        return [whole]
    index = find_file(name, _INDEX, what="the base", **hub)
    if index is None:
        return []
    found: list[str] = []
    for part in shard_names(read_config_file(index), ".safetensors", f"{_INDEX} of {name}"):
        path = find_file(name, part, what="the base", **hub)
        if path is None:
            raise AdapterError(f"{name} lacks {part}, which {_INDEX} names", hint="download or copy it completely")
        found.append(path)
    return found


def shard_names(index: Mapping[str, Any], suffix: str, name: str) -> list[str]:
    """Names of the files that an index of shards lists; none leaves the folder that the index is in.

    Args:
        index (`Mapping`): the content of the index.
        suffix (`str`): that every name must have.
        name (`str`): of the index, for the message.

    Returns:
        `list[str]`: sorted, each once.

    Raises:
        AdapterError: there is no `weight_map`, or something in it is no plain file name of that suffix.
    """
    parts = index.get("weight_map")
    found: list[Any] = list(parts.values()) if isinstance(parts, dict) else [None]
    for part in found:
        # A drive or stream of Windows is a path, too.
        if not isinstance(part, str) or not part.endswith(suffix) or part == suffix or set(part) & set("/\\:\0"):
            raise AdapterError(
                f"weight_map in {name} is no object of file names: {str(part)[:60]!r}",
                hint=f"plain names that end in {suffix}; the index is damaged or hostile",
            )
    return sorted(set(found))


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
        hint="make one of it: speechprompt convert causal-lm FOLDER NEW_FOLDER --unit-offset N, or in Python "
        "speechprompt_hf.convert.causal_lm.wrap_causal_lm(folder, new_folder, unit_offset=…); "
        "speechprompt train --base and push-base take a folder as it is once its config.json has the offset (the "
        "token of unit 0) and its weights are safetensors",
    )
