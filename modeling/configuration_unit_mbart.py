"""Configuration of the encoder-decoder unit language model."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from ..core.errors import ConfigurationError
from ..core.vocabulary import PAD_TOKEN_ID, SPECIAL_TOKENS
from .configuration_gslm import without_fetched_attention

__all__ = ["UnitMBartConfig"]


class UnitMBartConfig(PreTrainedConfig):
    """Configuration of an encoder-decoder language model over speech units in several languages.

    The defaults are fairseq's `mbart_large` over 1000 units of two languages: 355 855 360 parameters. Token ids: the
    special tokens, the units, `[language]` for each language, `<mask>`.

    Args:
        vocab_size (`int`, defaults to 1007): token ids V.
        num_units (`int`, defaults to 1000): units, behind the four special tokens.
        languages (`list[str]`, *optional*): names in the order of their tokens; `["en", "es"]` by default.
        language (`str`, *optional*): the language of utterances and labels; the first by default.
        has_mask (`bool`, defaults to `True`): the last token is `<mask>`.
        inner_eos (`bool`, defaults to `True`): `</s>` stands between the units and `[language]`.
        hidden_size (`int`, defaults to 1024): width D.
        num_encoder_layers (`int`, defaults to 12): layers of the encoder.
        num_hidden_layers (`int`, defaults to 12): layers of the decoder.
        num_attention_heads (`int`, defaults to 16): attention heads H of every layer; divides `hidden_size`.
        intermediate_size (`int`, defaults to 4096): width of the feed-forward layers.
        max_position_embeddings (`int`, defaults to 1024): longest sequence of encoder and decoder; rows of their
            tables of positions, which are learned.
        activation_function (`str`, defaults to `"gelu"`): activation of the feed-forward layers.
        dropout (`float`, defaults to 0.1): on embeddings and residual branches, in training.
        attention_dropout (`float`, defaults to 0.0): on attention weights, in training.
        activation_dropout (`float`, defaults to 0.0): inside the feed-forward layers, in training.
        normalize_before (`bool`, defaults to `True`): layers normalize what they read, and the stacks what they give
            (mBART); otherwise layers normalize what they give (BART).
        scale_embedding (`bool`, defaults to `True`): multiply embeddings by sqrt(D).
        use_cache (`bool`, defaults to `True`): return keys and values for generation.
        pad_token_id (`int`, defaults to 1): `<pad>`.
        bos_token_id (`int`, defaults to 0): `<s>`, the first token of every sequence.
        is_encoder_decoder (`bool`): always `True`.
        tie_word_embeddings (`bool`): always `True`: encoder, decoder and output head share one matrix.
        fingerprint (`dict`, *optional*): identity of the units the model was trained on, as the processor states it.
        base_version (`str`, *optional*): which release of a base of this name it is; adapters keep it.

    Raises:
        ConfigurationError: sizes do not fit each other, or there is no such language.

    Source:
        fairseq `models/bart/model.py`, architecture `mbart_large`; `tasks/multilingual_denoising.py`.
    """

    model_type = "unit_mbart"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012 - transformers' own convention
    # What transformers' layers of BART and mBART call these sizes.
    attribute_map: ClassVar[dict[str, str]] = {
        "d_model": "hidden_size",
        "encoder_layers": "num_encoder_layers",
        "decoder_layers": "num_hidden_layers",
        "encoder_attention_heads": "num_attention_heads",
        "decoder_attention_heads": "num_attention_heads",
        "encoder_ffn_dim": "intermediate_size",
        "decoder_ffn_dim": "intermediate_size",
    }

    vocab_size: int = 1007
    num_units: int = 1000
    languages: list[str] | None = None
    language: str | None = None
    has_mask: bool = True
    inner_eos: bool = True
    hidden_size: int = 1024
    num_encoder_layers: int = 12
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    max_position_embeddings: int = 1024
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    normalize_before: bool = True
    scale_embedding: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True
    fingerprint: dict[str, Any] | None = None
    base_version: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.languages is None:
            self.languages = ["en", "es"]
        super().__post_init__(**kwargs)
        self.validate_sizes()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration of the values in a file, without what would let transformers fetch code."""
        values = without_fetched_attention(config_dict)
        # Which names stand for the same size is not for a file to say.
        values.pop("attribute_map", None)
        return super().from_dict(values, **kwargs)

    @property
    def language_token_id(self) -> int:
        """The token of `language`: where the decoder starts and stops, and the last of the encoder's tokens.

        Raises:
            ConfigurationError: there is no such language.
        """
        return self.token_id_of(self.language)

    def token_id_of(self, language: str | None) -> int:
        """The token of a language; of the first for `None`.

        Raises:
            ConfigurationError: there is no such language.
        """
        names = list(self.languages or [])
        if language is not None and language not in names:
            raise ConfigurationError(f"language is {language!r}", hint=f"one of {', '.join(map(repr, names))}")
        index = 0 if language is None else names.index(language)
        return len(SPECIAL_TOKENS) + self.num_units + index

    @property
    def max_utterance_tokens(self) -> int:
        """Tokens of the longest utterance, its start and separator among them."""
        return self.max_position_embeddings - int(self.inner_eos)

    def validate_sizes(self) -> None:
        """Check that the sizes fit each other.

        Raises:
            ConfigurationError: they do not.
        """
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigurationError(
                f"hidden_size {self.hidden_size} cannot be divided among {self.num_attention_heads} attention heads",
                hint="choose num_attention_heads among the divisors of hidden_size",
            )
        for name in ("inner_eos", "has_mask", "normalize_before", "scale_embedding"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} is {str(getattr(self, name))[:60]!r}", hint="true or false")
        if self.pad_token_id != PAD_TOKEN_ID or type(self.num_units) is not int:
            raise ConfigurationError(
                f"pad_token_id is {str(self.pad_token_id)[:60]}, num_units {str(self.num_units)[:60]}",
                hint=f"<pad> is {PAD_TOKEN_ID}, and there is a whole number of units",
            )
        names = self.languages
        if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) for each in names):
            raise ConfigurationError(f"languages is {str(names)[:60]}", hint="a list of at least one name")
        if len(set(names)) != len(names):
            raise ConfigurationError(f"languages names one twice: {', '.join(names)}"[:200])
        needed = len(SPECIAL_TOKENS) + self.num_units + len(names) + int(self.has_mask)
        if self.num_units < 1 or self.vocab_size != needed:
            raise ConfigurationError(
                f"vocab_size is {self.vocab_size}, but {len(SPECIAL_TOKENS)} special tokens, {self.num_units} units, "
                f"{len(names)} languages and {int(self.has_mask)} mask are {needed}",
                hint="there is at least one unit, and no further token",
            )
        if not self.is_encoder_decoder or not self.tie_word_embeddings:
            raise ConfigurationError(
                f"is_encoder_decoder is {self.is_encoder_decoder}, tie_word_embeddings {self.tie_word_embeddings}",
                hint="both are always true for a Unit mBART",
            )
        self.token_id_of(self.language)
