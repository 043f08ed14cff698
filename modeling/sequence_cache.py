"""What generation keeps between its steps: the utterances that were read, and what was said since."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel
from .utterance_memory import UtteranceMemory

__all__ = ["EncodedUtterances", "SequenceCache"]


@dataclass
class EncodedUtterances(ModelOutput):
    """Utterances that are about to be answered, in the place of an encoder's output.

    Attributes:
        last_hidden_state (`Tensor` of shape `(B, 1, D)`): the language model's states after the separator.
        input_ids (`LongTensor` of shape `(B, N)`): the utterances.
        attention_mask (`LongTensor` of shape `(B, N)`): 1 for what is real.
        rows (`LongTensor` of shape `(B,)`): the utterance of `memory` that each row here is: beams repeat rows.
        memory (`UtteranceMemory`): what saying goes on from.
        prompt (`PromptStates`, *optional*): the prompt that they were read with.
    """

    last_hidden_state: Tensor | None = None
    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    rows: Tensor | None = None
    memory: UtteranceMemory | None = None
    prompt: PromptStates | None = None


class SequenceCache:
    """The language model's memory of a batch of utterances and of the tokens said since.

    It is changed in place, by saying further tokens and by `reorder`.

    Args:
        lm (`UnitLanguageModel`): whose memory it is.
        encoded (`EncodedUtterances`): what was read; left as it is, so that it can be answered again.
    """

    is_compileable = False

    def __init__(self, lm: UnitLanguageModel, encoded: EncodedUtterances) -> None:
        assert encoded.memory is not None and encoded.rows is not None
        self.prompt = encoded.prompt
        self.num_said = 0
        self._lm = lm
        self._memory = encoded.memory.begin(encoded.rows)
        self._num_rows = len(encoded.rows)

    def say(self, vectors: Tensor) -> Tensor:
        """Let the language model read what was said.

        Args:
            vectors (`Tensor` of shape `(B, T, D)`): the vectors of T further tokens.

        Returns:
            `Tensor` of shape `(B, T, D)`: its states after each.
        """
        batch_size, length = vectors.shape[:2]
        device = vectors.device
        seen = torch.ones(length, self.num_said + length, dtype=torch.bool, device=device).tril(self.num_said)
        states = self._lm.read_labels(
            self._memory,
            vectors,
            (torch.arange(length, device=device) + self.num_said + 1).expand(batch_size, -1),
            seen.expand(batch_size, -1, -1),
            self.prompt,
        )
        self.num_said += length
        return states

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows, `LongTensor` of shape `(B',)`, in their order."""
        self._memory = self._memory.take_rows(rows, self._num_rows)
        self._num_rows = len(rows)

    def get_seq_length(self) -> int:
        """Tokens said, the start among them."""
        return self.num_said + 1
