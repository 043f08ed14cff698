"""Pretraining of a Unit mBART on a corpus of units: spans are masked, the decoder says the utterance whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError, DatasetError
from ..core.vocabulary import EOS_TOKEN_ID, SEPARATOR_TOKEN_ID, UnitVocabulary
from ..modeling.configuration_unit_mbart import UnitMBartConfig
from ..modeling.modeling_unit_mbart import UnitMBartForConditionalGeneration
from .checkpoints import UNITS_IDENTITY, rows_digest
from .gslm_pretraining import save_half
from .infilling import infill
from .pretraining_run import Objective, pretrain
from .pretraining_settings import PretrainingConfig
from .processes import Processes
from .rows import collate_rows, make_batches

__all__ = ["Infilling", "UnitMBartPretrainingConfig", "make_language_rows", "pretrain_unit_mbart"]

_VALIDATION_SEED = 12345

Example = tuple[np.ndarray, np.ndarray]
"""What the encoder reads, and what the decoder is to say."""


def _small_model() -> dict[str, Any]:
    return {
        "hidden_size": 256,
        "num_encoder_layers": 2,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    }


@dataclass(frozen=True)
class UnitMBartPretrainingConfig(PretrainingConfig):
    """Settings of the pretraining of a Unit mBART; the further ones are those of [`PretrainingConfig`].

    Args:
        masked_units (`float`, *optional*, defaults to 0.35): share of an utterance's units that are masked.
        mean_span (`float`, *optional*, defaults to 3.5): mean length of a masked span.
        model (`dict`, *optional*): arguments of [`UnitMBartConfig`]; 2 + 2 layers of width 256 by default, a
            quarter more parameters than the default GSLM.

    Raises:
        ConfigurationError: a number is out of range, or a setting has no meaning here.
    """

    masked_units: float = 0.35
    mean_span: float = 3.5
    model: dict[str, Any] = field(default_factory=_small_model)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.masked_units <= 1 or not self.mean_span >= 0.1:
            raise ConfigurationError(
                f"masked_units is {self.masked_units!r} and mean_span {self.mean_span!r}",
                hint="a share above 0 and at most 1, a mean length of at least 0.1",
            )
        if self.break_mode != "utterance" or self.replaced_units or self.left_out_units:
            raise ConfigurationError(
                "break_mode, replaced_units and left_out_units are of the pretraining of a GSLM",
                hint="a Unit mBART reads one utterance at a time; masked_units and mean_span set its noise",
            )


class Infilling(Objective):
    """The utterance from what is left of it.

    Args:
        config ([`UnitMBartPretrainingConfig`]): its noise.
        model_config ([`UnitMBartConfig`]): the mask, and whether `</s>` stands before the language.

    Source:
        fairseq `tasks/multilingual_denoising.py`: the encoder reads `<s> noisy units </s> [language]`, the decoder
        says `<s> units </s> [language]`.
    """

    def __init__(self, config: UnitMBartPretrainingConfig, model_config: UnitMBartConfig) -> None:
        self.config = config
        self.mask_token_id = model_config.vocab_size - 1
        self.end = [EOS_TOKEN_ID] if model_config.inner_eos else []

    def epoch(self, rows: Sequence[np.ndarray], generator: np.random.Generator) -> list[list[np.ndarray]]:
        """Rows of like length together; the bound holds for what encoder and decoder read together."""
        batches = make_batches(rows, max(1, self.config.tokens_per_step // 2), generator)
        return [[np.array([index]) for index in batch] for batch in batches]

    def examples(self, lines: Sequence[Sequence[np.ndarray]], generator: np.random.Generator | None) -> list[Example]:
        """Each row `[language], units` with masked spans, and whole."""
        # The validation's noise depends on the row alone.
        made = []
        for (row,) in lines:
            draws = generator if generator is not None else np.random.default_rng([_VALIDATION_SEED, *row.tolist()])
            noisy = infill(
                row[1:], draws, self.mask_token_id, share=self.config.masked_units, mean_span=self.config.mean_span
            )
            made.append((self._sentence(noisy, row[0]), self._sentence(row[1:], row[0])))
        return made

    def _sentence(self, tokens: np.ndarray, language: int) -> np.ndarray:
        return np.array([SEPARATOR_TOKEN_ID, *tokens.tolist(), *self.end, language], dtype=np.int64)

    def num_targets(self, examples: Sequence[Example]) -> int:
        """Every token that the decoder says."""
        return sum(len(said) for _, said in examples)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The encoder's `input_ids` and `attention_mask`, the decoder's `labels`, which start with `<s>`."""
        read = collate_rows([read for read, _ in examples])
        said = collate_rows([said for _, said in examples])
        return {
            "input_ids": read["input_ids"],
            "attention_mask": read["attention_mask"],
            "decoder_attention_mask": said["attention_mask"],
            "labels": said["labels"],
        }


def make_language_rows(
    sequences: Sequence[Sequence[int]], languages: Sequence[str], vocabulary: UnitVocabulary, config: UnitMBartConfig
) -> list[np.ndarray]:
    """Token rows: the language, then units; longer utterances are cut into several rows.

    Args:
        sequences (`Sequence[Sequence[int]]`): merged units of each utterance.
        languages (`Sequence[str]`): of each utterance.
        vocabulary ([`UnitVocabulary`]): units to token ids.
        config ([`UnitMBartConfig`]): the languages' tokens, and the longest sequence.

    Returns:
        `list[np.ndarray]`: int64 rows of at least two ids.

    Raises:
        DatasetError: there is no utterance with units, or not one language an utterance.
        ConfigurationError: an utterance is in a language that the model does not know.
    """
    if len(languages) != len(sequences):
        raise DatasetError(
            f"there are {len(sequences)} utterances and languages of {len(languages)}", hint="one language each"
        )
    # `<s>`, `</s>` and the language stand around the units.
    step = config.max_position_embeddings - 3
    rows = []
    for units, language in zip(sequences, languages, strict=True):
        tokens = vocabulary.encode(units)
        first = config.token_id_of(language)
        rows += [
            np.array([first, *tokens[start : start + step]], dtype=np.int64) for start in range(0, len(tokens), step)
        ]
    if not rows:
        raise DatasetError("The corpus has no utterance with units.", hint="Extract units first: speechprompt units.")
    return rows


def pretrain_unit_mbart(
    sequences: Sequence[Sequence[int]],
    output: str | Path,
    config: UnitMBartPretrainingConfig | None = None,
    *,
    vocabulary: UnitVocabulary,
    languages: Sequence[str] | str = "en",
    validation: Sequence[Sequence[int]] = (),
    validation_languages: Sequence[str] | str | None = None,
    fingerprint: dict[str, Any] | None = None,
    device: str | torch.device | None = None,
    show_progress: bool = True,
    on_report: Callable[[dict[str, float]], None] | None = None,
) -> UnitMBartForConditionalGeneration:
    """Pretrains a Unit mBART; goes on from the checkpoint in `output` if there is one, as if it had not been stopped.

    Started by torchrun or `accelerate launch`, all processes train one model.

    Args:
        sequences (`Sequence[Sequence[int]]`): merged units of each training utterance.
        output (`str` or `Path`): receives `checkpoint.pt`, `log.jsonl` and, at the end, the model's files (float16).
        config ([`UnitMBartPretrainingConfig`], *optional*): the settings.
        vocabulary ([`UnitVocabulary`]): of the units.
        languages (`Sequence[str]` or `str`, *optional*, defaults to `"en"`): of each training utterance, or of all.
        validation (`Sequence[Sequence[int]]`, *optional*): held-out utterances.
        validation_languages (`Sequence[str]` or `str`, *optional*): theirs; that of all by default.
        fingerprint (`dict`, *optional*): identity of the units, kept in the model's configuration.
        device (`str` or `torch.device`, *optional*): where to train; a CUDA GPU if there is one, else the CPU.
        show_progress (`bool`, *optional*, defaults to `True`): a bar with the rate and the loss in nats a token.
        on_report (`Callable`, *optional*): receives what is written to `log.jsonl`.

    Returns:
        [`UnitMBartForConditionalGeneration`]: in float32 on the CPU, in evaluation mode. Its languages are those of
        the training utterances, in alphabetical order.

    Raises:
        DatasetError: the corpus is empty, or languages are missing.
        ConfigurationError: `output` holds a checkpoint of other settings, rows, vocabulary or units, or there is no
            such device here, or a held-out utterance is in a language that training lacks.
    """
    config = config or UnitMBartPretrainingConfig()
    processes = Processes.join(device)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    spoken = _each(languages, len(sequences))
    names = sorted(set(spoken))
    model_config = UnitMBartConfig(
        vocab_size=len(vocabulary) + len(names) + 1,
        num_units=vocabulary.num_units,
        languages=names,
        fingerprint=fingerprint,
        **{"max_position_embeddings": config.max_tokens, **config.model},
    )
    rows = make_language_rows(sequences, spoken, vocabulary, model_config)
    held_out: list[np.ndarray] = []
    if len(validation):
        given = languages if isinstance(languages, str) else None
        chosen = validation_languages if validation_languages is not None else given
        if chosen is None:
            raise DatasetError("the held-out utterances have no languages", hint="pass validation_languages")
        held_out = make_language_rows(validation, _each(chosen, len(validation)), vocabulary, model_config)
    torch.manual_seed(config.seed)
    model = UnitMBartForConditionalGeneration(model_config)
    nn.Module.to(model, processes.device)
    identity = {
        "training rows": rows_digest(rows),
        "vocabulary": sha256_of_json(vocabulary.symbols),
        "languages": sha256_of_json(names),
        UNITS_IDENTITY: (fingerprint or {}).get("digest"),
    }
    trained: UnitMBartForConditionalGeneration = pretrain(
        model,
        Infilling(config, model_config),
        rows,
        held_out,
        output,
        config,
        identity,
        processes,
        show_progress=show_progress,
        on_report=on_report,
    )
    if processes.is_main:
        save_half(trained, output)
    processes.wait()
    return trained


def _each(languages: Sequence[str] | str, number: int) -> list[str]:
    return [languages] * number if isinstance(languages, str) else list(languages)
