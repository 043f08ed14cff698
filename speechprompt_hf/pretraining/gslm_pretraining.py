"""Pretraining of a GSLM on a corpus of units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.digest import sha256_of_json
from ..core.vocabulary import SPECIAL_TOKENS, UnitVocabulary
from ..modeling.configuration_gslm import GSLMConfig
from ..modeling.modeling_gslm import GSLMForCausalLM
from .checkpoints import UNITS_IDENTITY, rows_digest
from .pretraining_run import Objective, mean_loss, pretrain
from .pretraining_settings import PretrainingConfig
from .processes import Processes
from .rows import collate_packed, collate_rows, disturb, make_batches, make_packed_batches, make_rows

__all__ = ["NextUnit", "PretrainingConfig", "evaluate_loss", "pretrain_gslm", "save_half"]


Example = tuple[list[np.ndarray], list[np.ndarray]]
"""A line: its rows as the model reads them, and as it is to predict them."""


class NextUnit(Objective):
    """Each token from those before it.

    Args:
        config ([`PretrainingConfig`]): its lengths, modes and disturbances.
        vocab_size (`int`): token ids V; the units are those behind the special tokens.
    """

    def __init__(self, config: PretrainingConfig, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size

    def epoch(self, rows: Sequence[np.ndarray], generator: np.random.Generator) -> list[list[np.ndarray]]:
        """Rows of like length together, one a line; packed ones in lines that they fill."""
        config = self.config
        if config.break_mode == "packed":
            return make_packed_batches(rows, config.tokens_per_step, config.max_tokens, generator)
        batches = make_batches(rows, config.tokens_per_step, generator)
        return [[np.array([index]) for index in batch] for batch in batches]

    def examples(self, lines: Sequence[Sequence[np.ndarray]], generator: np.random.Generator | None) -> list[Example]:
        """Rows read and predicted; disturbed in training, if the settings say so."""
        config = self.config
        if generator is None or not (config.replaced_units or config.left_out_units):
            return [(list(line), list(line)) for line in lines]
        flat = [row for line in lines for row in line]
        unit_ids = (len(SPECIAL_TOKENS), self.vocab_size)
        read, predicted = disturb(
            flat, generator, unit_ids, replaced=config.replaced_units, left_out=config.left_out_units
        )
        ends = np.cumsum([len(line) for line in lines])
        return [
            (read[end - len(line) : end], predicted[end - len(line) : end])
            for end, line in zip(ends.tolist(), lines, strict=True)
        ]

    def num_targets(self, examples: Sequence[Example]) -> int:
        """Every token of a row but its first."""
        return sum(len(row) - 1 for _, predicted in examples for row in predicted)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """`input_ids`, `labels`, and `attention_mask`, or of packed rows `position_ids`."""
        if self.config.break_mode == "packed":
            return collate_packed([read for read, _ in examples], [predicted for _, predicted in examples])
        return collate_rows([read[0] for read, _ in examples], [predicted[0] for _, predicted in examples])


def pretrain_gslm(
    sequences: Sequence[Sequence[int]],
    output: str | Path,
    config: PretrainingConfig | None = None,
    *,
    vocabulary: UnitVocabulary,
    validation: Sequence[Sequence[int]] = (),
    fingerprint: dict[str, Any] | None = None,
    device: str | torch.device | None = None,
    show_progress: bool = True,
    on_report: Callable[[dict[str, float]], None] | None = None,
) -> GSLMForCausalLM:
    """Pretrains a GSLM; goes on from the checkpoint in `output` if there is one, as if it had not been stopped.

    Started by torchrun or `accelerate launch`, all processes train one model.

    Args:
        sequences (`Sequence[Sequence[int]]`): merged units of each training utterance.
        output (`str` or `Path`): receives `checkpoint.pt`, `log.jsonl` and, at the end, the model's files (float16).
        config ([`PretrainingConfig`], *optional*): the settings.
        vocabulary ([`UnitVocabulary`]): of the units.
        validation (`Sequence[Sequence[int]]`, *optional*): held-out utterances.
        fingerprint (`dict`, *optional*): identity of the units, kept in the model's configuration.
        device (`str` or `torch.device`, *optional*): where to train; a CUDA GPU if there is one, else the CPU.
        show_progress (`bool`, *optional*, defaults to `True`): a bar with the rate and the loss in nats a token.
        on_report (`Callable`, *optional*): receives what is written to `log.jsonl`.

    Returns:
        [`GSLMForCausalLM`]: in float32 on the CPU, in evaluation mode.

    Raises:
        DatasetError: the corpus is empty.
        ConfigurationError: `output` holds a checkpoint of other settings, rows, vocabulary or units, or there is no
            such device here.
    """
    config = config or PretrainingConfig()
    processes = Processes.join(device)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    mode = "stream" if config.break_mode == "stream" else "utterance"
    cut: dict[str, Any] = {"max_tokens": config.max_tokens, "break_mode": mode}
    rows = make_rows(sequences, vocabulary, **cut)
    held_out = make_rows(validation, vocabulary, **cut) if len(validation) else []
    torch.manual_seed(config.seed)
    model = GSLMForCausalLM(GSLMConfig(vocab_size=len(vocabulary), fingerprint=fingerprint, **config.model))
    nn.Module.to(model, processes.device)
    identity = {
        "training rows": rows_digest(rows),
        "vocabulary": sha256_of_json(vocabulary.symbols),
        UNITS_IDENTITY: (fingerprint or {}).get("digest"),
    }
    objective = NextUnit(config, len(vocabulary))
    trained: GSLMForCausalLM = pretrain(
        model,
        objective,
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


def save_half(model: Any, folder: str | Path) -> None:
    """Writes the model's files in float16; the model itself stays as it is."""
    half = type(model)(model.config).half()
    half.load_state_dict({name: value.detach().half() for name, value in model.state_dict().items()})
    half.tie_weights()
    half.save_pretrained(folder)


def evaluate_loss(model: GSLMForCausalLM, rows: Sequence[np.ndarray], *, tokens_per_batch: int = 8192) -> float:
    """Mean loss in nats a predicted token over rows of [`make_rows`]."""
    config = PretrainingConfig(tokens_per_step=tokens_per_batch)
    return mean_loss(model, NextUnit(config, model.config.vocab_size), rows)
