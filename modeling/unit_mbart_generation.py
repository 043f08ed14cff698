"""How a Unit mBART starts and stops."""

from __future__ import annotations

from transformers import GenerationConfig

from ..core.vocabulary import PAD_TOKEN_ID, SEPARATOR_TOKEN_ID
from .configuration_unit_mbart import UnitMBartConfig

__all__ = ["generation_config"]


def generation_config(config: UnitMBartConfig) -> GenerationConfig:
    """Start with the token of `config.language`, say `<s>` first, stop at the language; `<pad>` is never said.

    Where the length is used up the language is the last token, too, as in fairseq.

    Source:
        fairseq `tasks/multilingual_denoising.py` and `tasks/translation_from_pretrained_bart.py`.
    """
    language = config.language_token_id
    return GenerationConfig(
        bos_token_id=SEPARATOR_TOKEN_ID,
        pad_token_id=PAD_TOKEN_ID,
        decoder_start_token_id=language,
        forced_bos_token_id=SEPARATOR_TOKEN_ID,
        eos_token_id=language,
        forced_eos_token_id=language,
        suppress_tokens=[PAD_TOKEN_ID],
    )
