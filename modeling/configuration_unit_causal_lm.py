"""Configuration of a stock causal language model over units, wrapped as a base."""

from __future__ import annotations

import math
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.activations import ACT2FN

from ..core.errors import ConfigurationError
from ..core.vocabulary import SPECIAL_TOKENS
from .configuration_gslm import without_fetched_attention
from .unit_causal_lm_families import CausalLMFamily, causal_lm_family

__all__ = ["UnitCausalLMConfig", "kept_lm_values"]

_ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3")
_MAX_VALUE = 2**31


class UnitCausalLMConfig(PreTrainedConfig):
    """Configuration of `UnitCausalLMForCausalLM`.

    Args:
        lm_config (`dict`, *optional*): configuration of the wrapped model: `model_type`, one of
            `unit_causal_lm_families.FAMILIES`, and fields of it that the architecture has; OPT-125M's by default.
        vocab_size (`int`, defaults to 504): token ids V: `<s>`, `<pad>`, `</s>`, `<unk>` and the units, the order of
            `UnitVocabulary`. Embedding and output head have it too, whatever order the wrapped model had.
        has_start_token (`bool`, defaults to `False`): whether the wrapped model was trained with a token before the
            first unit; without one `</s>` has no position and no unit sees it.
        use_cache (`bool`, defaults to `True`): return keys and values for generation.
        pad_token_id (`int`, defaults to 1): `<pad>`.
        bos_token_id (`int`, defaults to 0): `<s>`, the separator between an utterance and its labels.
        eos_token_id (`int`, defaults to 2): `</s>`, which starts every sequence.
        tie_word_embeddings (`bool`, defaults to `True`): the output head is the embedding matrix.
        fingerprint (`dict`, *optional*): identity of the units the model was trained on, as the processor states it.
        base_version (`str`, *optional*): which release of a base of this name it is; adapters keep it.
        hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, max_position_embeddings
            (`int`): of the wrapped model; taken from `lm_config`, whatever is given.

    Raises:
        ConfigurationError: the architecture cannot be wrapped, or a value of it does not exist.
    """

    model_type = "unit_causal_lm"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012 - transformers' own convention

    lm_config: dict[str, Any] | None = None
    vocab_size: int = 504
    has_start_token: bool = False
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2
    decoder_start_token_id: int | None = 2
    tie_word_embeddings: bool = True
    fingerprint: dict[str, Any] | None = None
    base_version: str | None = None
    # Under these names PEFT finds the sizes of a prompt.
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int = 12
    head_dim: int = 64
    max_position_embeddings: int = 2048

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.lm_config is None:
            self.lm_config = {"model_type": "opt"}
        if self.vocab_size <= len(SPECIAL_TOKENS):
            raise ConfigurationError(
                f"vocab_size is {self.vocab_size}", hint="four special tokens and at least one unit are needed"
            )
        self.lm_config = _checked_values(self.lm_config)
        lm = self.make_lm_config()
        self.hidden_size = lm.hidden_size
        self.num_hidden_layers = lm.num_hidden_layers
        self.num_attention_heads = lm.num_attention_heads
        self.num_key_value_heads = getattr(lm, "num_key_value_heads", None) or lm.num_attention_heads
        self.head_dim = getattr(lm, "head_dim", None) or lm.hidden_size // lm.num_attention_heads
        self.max_position_embeddings = lm.max_position_embeddings
        self._check_heads()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration of the values in a file, without what would let transformers fetch code."""
        return super().from_dict(without_fetched_attention(config_dict), **kwargs)

    @property
    def family(self) -> CausalLMFamily:
        """The architecture of the wrapped model."""
        return causal_lm_family((self.lm_config or {}).get("model_type"))

    @property
    def lm_function(self) -> dict[str, Any]:
        """What the wrapped model computes from its weights: `lm_config` without dropouts and initialisation."""
        return {key: value for key, value in (self.lm_config or {}).items() if key not in self.family.dropouts}

    def make_lm_config(self) -> PreTrainedConfig:
        """The configuration of the wrapped model, of transformers' own class.

        Raises:
            ConfigurationError: transformers refuses it.
        """
        family = self.family
        own: dict[str, Any] = {key: value for key, value in (self.lm_config or {}).items() if key != "model_type"}
        tokens = {name: getattr(self, name) for name in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
        kind: Any = CONFIG_MAPPING[family.model_type]
        try:
            config: PreTrainedConfig = kind(**{**dict.fromkeys(family.zero, 0.0), **family.fixed, **own, **tokens})
        # transformers and the Hub's client raise several kinds of errors for values that do not go together.
        except (StrictDataclassError, ValueError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
            raise ConfigurationError(
                f"lm_config is no configuration of {kind.model_type}: {_last_line(error)}",
                hint="wrap the language model again",
            ) from error
        return config

    def _check_heads(self) -> None:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if min(heads, kv_heads, self.head_dim, self.hidden_size, self.num_hidden_layers) < 1:
            raise ConfigurationError("lm_config has a size below 1")
        lm = self.lm_config or {}
        if heads % kv_heads or ("head_dim" not in lm and self.hidden_size % heads) or self.head_dim % 2:
            raise ConfigurationError(
                f"lm_config has width {self.hidden_size}, {heads} heads of queries and {kv_heads} of keys, each of "
                f"width {self.head_dim}",
                hint="heads divide the width, heads of keys divide those of queries, and the width of one is even",
            )


def kept_lm_values(config: PreTrainedConfig) -> dict[str, Any]:
    """What `UnitCausalLMConfig.lm_config` holds of a stock configuration.

    Args:
        config (`PreTrainedConfig`): of the language model that is wrapped.

    Raises:
        ConfigurationError: its architecture cannot be wrapped.
    """
    family = causal_lm_family(config.model_type)
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        raise ConfigurationError(
            f"the model has layers of {', '.join(sorted(map(str, kinds)))[:60]}",
            hint="prompts must be visible to every token, so only layers of full attention can be prompted",
        )
    values = {name: getattr(config, name) for name in sorted(family.fields | family.dropouts) if hasattr(config, name)}
    values |= dict.fromkeys(family.zero, 0.0)
    # Newer versions of transformers write all kinds of positions into every file; those that say nothing are left out.
    rope = values.get("rope_parameters")
    if isinstance(rope, dict):
        values["rope_parameters"] = {key: value for key, value in rope.items() if value is not None}
    return _checked_values({"model_type": family.model_type, **values})


def _checked_values(values: Any) -> dict[str, Any]:
    """Plain values of known fields only.

    Raises:
        ConfigurationError: a field is not known, or its value would fetch code or fail later.
    """
    if not isinstance(values, dict):
        raise ConfigurationError(f"lm_config is {type(values).__name__}, no object")
    family = causal_lm_family(values.get("model_type"))
    known = {"model_type"} | family.fields | family.dropouts
    for key, value in values.items():
        if key not in known:
            raise ConfigurationError(
                f"lm_config has {str(key)[:60]!r}, which says nothing about the weights of {family.model_type}",
                hint="wrap the language model again; code and attention kernels of others are never fetched",
            )
        if key in family.fixed and value != family.fixed[key]:
            raise ConfigurationError(
                f"lm_config has {key} {str(value)[:60]}",
                hint=f"prompts need {family.fixed[key]}: they must be visible to every token",
            )
        if key in family.zero and value:
            raise ConfigurationError(f"lm_config has {key} {str(value)[:60]}", hint="a frozen base has 0")
        if key == "rope_parameters":
            _check_rope(value)
        elif not (value is None or isinstance(value, str | bool) or _is_number(value)):
            raise ConfigurationError(f"{key} in lm_config is {str(value)[:60]!r}", hint="a finite number")
    activation = values.get("hidden_act", values.get("activation_function"))
    if activation is not None and activation not in ACT2FN:
        raise ConfigurationError(
            f"the activation in lm_config is {str(activation)[:60]!r}", hint="one that transformers knows"
        )
    return dict(values)


def _check_rope(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or value.get("rope_type", "default") not in _ROPE_TYPES:
        raise ConfigurationError(
            f"rope_parameters in lm_config is {str(value)[:60]}", hint=f"of a rope_type in {', '.join(_ROPE_TYPES)}"
        )
    for key, number in value.items():
        if key not in ("rope_type", "type") and not (isinstance(number, bool) or number is None or _is_number(number)):
            raise ConfigurationError(
                f"{str(key)[:60]} in rope_parameters is {str(number)[:60]!r}", hint="a finite number"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _MAX_VALUE


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1][:200]
