"""Configuration of the generative spoken language model."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from ..core.errors import ConfigurationError

__all__ = ["GSLMConfig", "without_fetched_attention"]


class GSLMConfig(PreTrainedConfig):
    """Configuration of a decoder-only language model over speech units.

    The defaults are fairseq's `transformer_lm_big` as trained for GSLM on HuBERT's 100 units: 151 263 232 parameters.

    Args:
        vocab_size (`int`, defaults to 104): token ids: `<s>`, `<pad>`, `</s>`, `<unk>` and the units.
        hidden_size (`int`, defaults to 1024): width D; even, at least 4.
        num_hidden_layers (`int`, defaults to 12): decoder layers L.
        num_attention_heads (`int`, defaults to 16): attention heads H; divides `hidden_size`.
        intermediate_size (`int`, defaults to 4096): width of the feed-forward layers.
        max_position_embeddings (`int`, defaults to 3072): rows of the position table; it grows when more are needed.
        activation_function (`str`, defaults to `"relu"`): activation of the feed-forward layers.
        dropout (`float`, defaults to 0.1): on embeddings and residual branches, in training.
        attention_dropout (`float`, defaults to 0.1): on attention weights, in training.
        activation_dropout (`float`, defaults to 0.0): inside the feed-forward layers, in training.
        layer_norm_eps (`float`, defaults to 1e-5): epsilon of all layer normalisations.
        scale_embedding (`bool`, defaults to `True`): multiply embeddings by sqrt(D).
        use_cache (`bool`, defaults to `True`): return keys and values for generation.
        pad_token_id (`int`, defaults to 1): `<pad>`.
        bos_token_id (`int`, defaults to 0): `<s>`, the separator between an utterance and its labels.
        eos_token_id (`int`, defaults to 2): `</s>`, which starts and ends every sequence.
        tie_word_embeddings (`bool`, defaults to `True`): the output head is the embedding matrix.
        fingerprint (`dict`, *optional*): identity of the units the model was trained on, as the processor states it.
        base_version (`str`, *optional*): which release of a base of this name it is; adapters keep it.

    Raises:
        ConfigurationError: sizes do not fit each other.

    Source:
        fairseq `models/transformer_lm.py`, architecture `transformer_lm_big` with a shared output embedding.
    """

    model_type = "gslm"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012 - transformers' own convention

    vocab_size: int = 104
    hidden_size: int = 1024
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    max_position_embeddings: int = 3072
    activation_function: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_norm_eps: float = 1e-5
    scale_embedding: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2
    decoder_start_token_id: int | None = 2
    tie_word_embeddings: bool = True
    fingerprint: dict[str, Any] | None = None
    base_version: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.validate_sizes()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration of the values in a file, without what would let transformers fetch code."""
        return super().from_dict(without_fetched_attention(config_dict), **kwargs)

    def validate_sizes(self) -> None:
        """Check that the sizes fit each other.

        Raises:
            ConfigurationError: they do not.
        """
        if self.hidden_size % 2 or self.hidden_size < 4:
            raise ConfigurationError(
                f"hidden_size is {self.hidden_size}",
                hint="sinusoidal positions need an even width of at least 4",
            )
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigurationError(
                f"hidden_size {self.hidden_size} cannot be divided among {self.num_attention_heads} attention heads",
                hint="choose num_attention_heads among the divisors of hidden_size",
            )
        if self.vocab_size < 5:
            raise ConfigurationError(
                f"vocab_size is {self.vocab_size}", hint="four special tokens and at least one unit are needed"
            )


def without_fetched_attention(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a configuration file but for attention implementations that are kernels on the Hub.

    transformers fetches and imports them, whatever `trust_remote_code` says.

    Args:
        values (`dict`): the content of config.json.
    """
    names = ("_attn_implementation", "attn_implementation")
    return {key: value for key, value in values.items() if key not in names or value in ("sdpa", "eager")}
