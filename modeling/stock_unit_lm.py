"""What the files beside a stock language model say: its architecture, and which of its tokens are units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from ..core.errors import ConfigurationError
from .unit_causal_lm_families import FAMILIES, CausalLMFamily, causal_lm_family

__all__ = ["TOKENISER_FILE", "StockUnitLM", "is_stock_unit_lm", "model_fields", "read_stock_unit_lm"]

TOKENISER_FILE = "tokeniser_config.json"
"""Where slamkit says which tokens are special."""

_SLAMKIT = "speech_language_model"
_MAX_UNITS = 1_000_000
# What would fetch code, or is about the machine and not the model.
_LEFT_OUT = (
    "attn_implementation",
    "_attn_implementation",
    "auto_map",
    "quantization_config",
    "torch_dtype",
    "dtype",
    "_name_or_path",
    "transformers_version",
)


@dataclass(frozen=True)
class StockUnitLM:
    """A language model of transformers over units.

    Attributes:
        kind (`str`): `"slamkit"`, or the architecture.
        config (`PreTrainedConfig`): of the language model.
        prefix (`str`): before the names of its weights.
        unit_offset (`int`): token of unit 0; those of the others follow.
        num_units (`int`): units.
        start_token_id (`int`, *optional*): the token before the first unit; without it the model was trained on units
            alone.
        pad_token_id (`int`, *optional*): the padding.
        end_token_id (`int`, *optional*): the token after the last unit; `None` where that is `start_token_id`, or
            where the model was trained without one.
        offset_from (`str`): where the offset was read.
    """

    kind: str
    config: PreTrainedConfig
    prefix: str
    unit_offset: int
    num_units: int
    start_token_id: int | None
    pad_token_id: int | None
    offset_from: str
    end_token_id: int | None = None

    @property
    def family(self) -> CausalLMFamily:
        """The architecture."""
        return causal_lm_family(self.config.model_type)

    @property
    def is_tied(self) -> bool:
        """Whether the output head is the embedding."""
        return bool(getattr(self.config, "tie_word_embeddings", True))

    @property
    def embedding_width(self) -> int:
        """Width of embedding and output head; OPT-350M's is below that of its layers."""
        return int(getattr(self.config, "word_embed_proj_dim", None) or self.config.hidden_size)

    @property
    def projects(self) -> bool:
        """Whether embedding and output head have another width than the layers."""
        return self.embedding_width != self.config.hidden_size

    @property
    def special_tokens(self) -> frozenset[int]:
        """Tokens beside the units whose rows are used."""
        tokens = (self.start_token_id, self.pad_token_id, self.end_token_id)
        return frozenset(token for token in tokens if token is not None)

    @property
    def special_tokens_not_used(self) -> dict[str, int]:
        """Tokens that the configuration names and that are not read, also units: see `read_stock_unit_lm`."""
        named = {what: getattr(self.config, what, None) for what in ("bos_token_id", "eos_token_id", "pad_token_id")}
        return {
            what: token
            for what, token in named.items()
            if isinstance(token, int) and 0 <= token < self.config.vocab_size and token not in self.special_tokens
        }

    @property
    def units(self) -> range:
        """Tokens of the units."""
        return range(self.unit_offset, self.unit_offset + self.num_units)

    @property
    def num_rows_needed(self) -> int:
        """Rows that embedding and output head must have at least."""
        return max([self.unit_offset + self.num_units, *(token + 1 for token in self.special_tokens)])


def is_stock_unit_lm(values: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of TWIST, slamkit, or another stock model that names the offset of its units.

    Args:
        values (`Mapping`): the content of config.json.
    """
    kind = values.get("model_type")
    return kind == _SLAMKIT or (isinstance(kind, str) and kind in FAMILIES and "offset" in values)


def model_fields(values: Any) -> Any:
    """A stock configuration without what would fetch code, or is about the machine; no object stays as it is."""
    return (
        {key: value for key, value in values.items() if key not in _LEFT_OUT} if isinstance(values, dict) else values
    )


def read_stock_unit_lm(
    values: Mapping[str, Any],
    name: str,
    *,
    tokeniser: Mapping[str, Any] | None = None,
    unit_offset: int | None = None,
    num_units: int | None = None,
    start_token_id: int | None = None,
    end_token_id: int | None = None,
) -> StockUnitLM:
    """What the files beside the weights say; nothing is assumed about the offset.

    Args:
        values (`Mapping`): the content of config.json.
        name (`str`): folder or Hub id, for messages.
        tokeniser (`Mapping`, *optional*): the content of slamkit's `tokeniser_config.json`.
        unit_offset (`int`, *optional*): token of unit 0, where no file says it.
        num_units (`int`, *optional*): units; all tokens from the offset on by default.
        start_token_id (`int`, *optional*): the token before the first unit, where no file says it. The `bos_token_id`
            and `eos_token_id` of other models than slamkit's are not read: architectures have them by default, whether
            a model was trained with them or not.
        end_token_id (`int`, *optional*): the token after the last unit, where no file says it.

    Raises:
        ConfigurationError: the architecture cannot be wrapped, or the tokens of units are not known or impossible.
    """
    if values.get("model_type") == _SLAMKIT:
        return _slamkit(name, values, tokeniser or {}, unit_offset, num_units, start_token_id, end_token_id)
    config = _stock_config(values, name)
    read, source = values.get("offset"), "offset in config.json"
    if unit_offset is not None:
        if read is not None and read != unit_offset:
            raise ConfigurationError(f"unit_offset is {unit_offset}, but {name} has offset {read} in config.json")
        source = "unit_offset" if read is None else source
        read = unit_offset
    if read is None:
        raise ConfigurationError(
            f"config.json of {name} has no offset: which token is unit 0 is not known",
            hint="pass unit_offset (--unit-offset), the token of unit 0; nothing in the weights says it",
        )
    offset = _token(read, "offset", name)
    num_units = _num_units(num_units, config.vocab_size - offset, name)
    units = range(offset, offset + num_units)
    start = None if start_token_id is None else _special(start_token_id, "start_token_id", units, name)
    end = None if end_token_id is None else _special(end_token_id, "end_token_id", units, name)
    return StockUnitLM(
        kind=str(config.model_type),
        config=config,
        prefix="",
        unit_offset=offset,
        num_units=num_units,
        start_token_id=start,
        pad_token_id=None,
        offset_from=source,
        end_token_id=None if end == start else end,
    )


def _slamkit(
    name: str,
    values: Mapping[str, Any],
    said: Mapping[str, Any],
    unit_offset: int | None,
    num_units: int | None,
    start_token_id: int | None,
    end_token_id: int | None,
) -> StockUnitLM:
    """slamkit: units follow the special tokens, a sequence is `<S>`, units, `<S>`; the end may be another token."""
    inner = values.get("base_config")
    if not isinstance(inner, dict):
        raise ConfigurationError(f"config.json of {name} has no base_config", hint="save the model with slamkit again")
    shared = {key: values[key] for key in ("tie_word_embeddings", "vocab_size") if key in values}
    config = _stock_config({**inner, **shared}, name)
    bos = said.get("bos_eos_token_id", inner.get("bos_token_id", values.get("bos_token_id")))
    pad = said.get("pad_token_id", inner.get("pad_token_id", values.get("pad_token_id")))
    eos = said.get("bos_eos_token_id", inner.get("eos_token_id", values.get("eos_token_id")))
    source = "special tokens in config.json" if not said else TOKENISER_FILE
    for what, given, read in (("start_token_id", start_token_id, bos), ("end_token_id", end_token_id, eos)):
        if given is not None and read not in (None, given):
            raise ConfigurationError(f"{what} is {given}, but {name} says {read}")
    bos, eos = start_token_id if bos is None else bos, end_token_id if eos is None else eos
    if bos is None or (pad is None and unit_offset is None):
        raise ConfigurationError(
            f"{name} names no bos_token_id or no pad_token_id: which token is unit 0 is not known",
            hint="pass unit_offset and start_token_id (--unit-offset, --start-token-id)",
        )
    start = _token(bos, "bos_token_id", name)
    padding = None if pad is None else _token(pad, "pad_token_id", name)
    end = start if eos is None else _token(eos, "eos_token_id", name)
    read = max(start, end, start if padding is None else padding) + 1
    if unit_offset is not None and padding is not None and unit_offset != read:
        raise ConfigurationError(f"unit_offset is {unit_offset}, but the {source} of {name} make it {read}")
    if end >= config.vocab_size:
        raise ConfigurationError(
            f"eos_token_id of {name} is {end}, but vocab_size is {config.vocab_size}",
            hint="write the unit model's own token into config.json, or put slamkit's tokeniser_config.json beside it",
        )
    offset = _token(read if unit_offset is None else unit_offset, "unit_offset", name)
    num_units = _num_units(said.get("num_units") if num_units is None else num_units, config.vocab_size - offset, name)
    units = range(offset, offset + num_units)
    start, end = _special(start, "bos_token_id", units, name), _special(end, "eos_token_id", units, name)
    return StockUnitLM(
        kind="slamkit",
        config=config,
        prefix="lm.",
        unit_offset=offset,
        num_units=num_units,
        start_token_id=start,
        pad_token_id=padding,
        offset_from=source,
        end_token_id=None if end == start else end,
    )


def _stock_config(values: Mapping[str, Any], name: str) -> PreTrainedConfig:
    """A configuration of transformers' own class; nothing is fetched."""
    family = causal_lm_family(values.get("model_type"))
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[family.model_type].from_dict(model_fields(dict(values)))
    # transformers and the Hub's client raise several kinds of errors for values that do not go together.
    except (StrictDataclassError, ValueError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
        text = " ".join(str(error).split())[-200:]
        raise ConfigurationError(f"config.json of {name} is none of {family.model_type}: {text}") from error
    size = getattr(config, "vocab_size", None)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _MAX_UNITS:
        raise ConfigurationError(f"vocab_size in config.json of {name} is {str(size)[:60]}")
    return config


def _token(value: Any, what: str, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_UNITS:
        raise ConfigurationError(f"{what} of {name} is {str(value)[:60]}", hint="a token id")
    return value


def _special(value: Any, what: str, units: range, name: str) -> int:
    token = _token(value, what, name)
    if token in units:
        raise ConfigurationError(
            f"{what} of {name} is {token}, which is unit {token - units.start}: units are the tokens {units.start} to "
            f"{units.stop - 1}",
            hint="give a token beside those of the units, or leave it out if the model was trained without one",
        )
    return token


def _num_units(given: Any, rows: int, name: str) -> int:
    found = rows if given is None else given
    if rows < 1:
        raise ConfigurationError(
            f"the token of unit 0 lies {1 - rows} behind the last one of {name}",
            hint="give the offset at which the units of this model begin",
        )
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found <= rows:
        raise ConfigurationError(
            f"{name} has {rows} tokens from that of unit 0 on, not {str(found)[:60]} units",
            hint="the offset or the number of units belongs to another model",
        )
    return found
