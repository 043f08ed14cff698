"""How decoder-only models read utterances and labels: as one sequence, labels going on from the utterance's cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..core.vocabulary import EOS_TOKEN_ID
from .prompt_states import PromptStates
from .unit_language_model import ReadUtterances, UnitLanguageModel, last_real_column
from .utterance_memory import UtteranceMemory, columns_of_cache

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
        """Read utterances; input prompts are kept as columns of theirs."""
        cache = DynamicCache() if keep_memory else None
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            prompt=prompt,
            positions_to_keep=last_real_column(attention_mask).unsqueeze(1) if at_separator else None,
            use_cache=keep_memory,
        )
        memory = None
        if cache is not None:
            visible = self.visible_columns(attention_mask)
            lengths = visible.sum(1) - 1
            if prompt is not None and prompt.num_input_columns:
                shown = visible.new_ones(len(visible), prompt.num_input_columns)
                visible = torch.cat([shown if prompt.input_mask is None else prompt.input_mask, visible], dim=1)
            memory = UtteranceMemory(columns_of_cache(cache), visible, lengths, said=DynamicCache())
        return ReadUtterances(output.last_hidden_state, memory)

    def read_labels(
        self,
        memory: UtteranceMemory,
        vectors: Tensor,
        depths: Tensor,
        node_mask: Tensor,
        prompt: PromptStates | None,
    ) -> Tensor:
        """Read nodes as further columns, each with the position that its depth gives it."""
        mask = memory.seen_by_nodes(node_mask)
        if self.config._attn_implementation == "eager":
            lowest = torch.finfo(self.dtype).min
            mask = torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill(~mask, lowest)
        return self.model(
            inputs_embeds=vectors,
            attention_mask=mask,
            position_ids=memory.positions(depths),
            past_key_values=memory.said,
            prompt=replace(prompt or PromptStates(), inputs=None, input_mask=None, read=memory.columns),
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
