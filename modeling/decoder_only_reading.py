"""How decoder-only models read utterances and labels: as one sequence, labels going on from the utterance's cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..core.vocabulary import EOS_TOKEN_ID
from .cache_marks import CACHE_FIELD
from .prompt_states import PromptStates
from .unit_language_model import ReadUtterances, UnitLanguageModel, last_real_column

__all__ = ["DecoderOnlyReading"]


class DecoderOnlyReading(UnitLanguageModel):
    """`UnitLanguageModel` of a language model whose decoder, `self.model`, takes a prompt and columns to keep."""

    model: Any

    def visible_columns(self, attention_mask: Tensor) -> Tensor:
        """The columns that tokens after them see, `BoolTensor` of shape `(B, N)`: the real ones."""
        return attention_mask.ne(0)

    def embed_utterances(self, input_ids: Tensor, separator: Tensor | None) -> Tensor:
        """Scaled embeddings."""
        return self.model.embed_tokens(input_ids, separator=False if separator is None else separator)

    def states_of_tokens(self, input_ids: Tensor) -> list[Tensor]:
        """Scaled embeddings, then the states before the further layers, after a start token."""
        start = input_ids.new_tensor([EOS_TOKEN_ID])
        output = self.model(
            input_ids=torch.cat([start, input_ids]).unsqueeze(0), output_hidden_states=True, use_cache=False
        )
        first = self.model.embed_tokens(input_ids.unsqueeze(0))[0]
        return [first, *(state[0, 1:] for state in output.hidden_states[1:-1])]

    def read_utterances(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        prompt: PromptStates | None,
        *,
        at_separator: bool,
        keep_memory: bool = False,
    ) -> ReadUtterances:
        """Read utterances; the memory is a cache."""
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=DynamicCache(config=self.config) if keep_memory else None,
            prompt=prompt,
            positions_to_keep=last_real_column(attention_mask).unsqueeze(1) if at_separator else None,
            use_cache=keep_memory,
        )
        visible = self.visible_columns(attention_mask)
        return ReadUtterances(output.last_hidden_state, visible, output.get(CACHE_FIELD))

    def read_labels(
        self,
        utterances: ReadUtterances,
        vectors: Tensor,
        depths: Tensor,
        node_mask: Tensor,
        prompt: PromptStates | None,
    ) -> Tensor:
        """Read nodes as further columns, each with the position that its depth gives it."""
        visible = utterances.visible
        columns = visible[:, None, None, :].expand(-1, 1, vectors.shape[1], -1)
        mask = torch.cat([columns, node_mask.unsqueeze(1)], dim=-1)
        if self.config._attn_implementation == "eager":
            lowest = torch.finfo(self.dtype).min
            mask = torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill(~mask, lowest)
        return self.model(
            inputs_embeds=vectors,
            attention_mask=mask,
            position_ids=visible.sum(1, keepdim=True) + depths - 1,
            past_key_values=utterances.memory,
            prompt=prompt,
            use_cache=True,
        ).last_hidden_state

    def read_labelled(
        self, input_ids: Tensor, attention_mask: Tensor, vectors: Tensor, prompt: PromptStates | None
    ) -> Tensor:
        """Read utterances and labels as one sequence; labels stand where the padding begins."""
        num_labels = vectors.shape[1]
        columns = last_real_column(attention_mask).unsqueeze(1) + torch.arange(num_labels + 1, device=input_ids.device)
        embedded = self.embed_utterances(input_ids, None if prompt is None else prompt.separator)
        embedded = nn.functional.pad(embedded, (0, 0, 0, num_labels))
        index = columns[:, 1:, None].expand(-1, -1, embedded.shape[-1])
        embedded = embedded.scatter(1, index, vectors.to(embedded.dtype))
        mask = nn.functional.pad(attention_mask.ne(0).long(), (0, num_labels)).scatter(1, columns[:, 1:], 1)
        return self.model(
            inputs_embeds=embedded, attention_mask=mask, prompt=prompt, positions_to_keep=columns, use_cache=False
        ).last_hidden_state

    def rows_of_memory(self, utterances: ReadUtterances, rows: Tensor) -> ReadUtterances:
        """The cache keeps these rows only."""
        utterances.memory.batch_select_indices(rows)
        return ReadUtterances(utterances.hidden_states[rows], utterances.visible[rows], utterances.memory)
