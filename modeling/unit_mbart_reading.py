"""How a Unit mBART reads: the encoder the utterance, the decoder the separator and the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from ..core.vocabulary import EOS_TOKEN_ID, PAD_TOKEN_ID, SEPARATOR_TOKEN_ID
from .attention import show_columns
from .configuration_unit_mbart import UnitMBartConfig
from .prompt_states import PromptStates
from .unit_language_model import PromptLayer, ReadUtterances, UnitLanguageModel, in_own_precision
from .unit_mbart_attention import additive_mask
from .utterance_memory import EncoderMemory, UtteranceMemory, columns_of_cache, for_rows

if TYPE_CHECKING:
    from .unit_mbart_stacks import UnitMBartDecoder, UnitMBartEncoder

__all__ = ["UnitMBartReading"]


class UnitMBartReading(UnitLanguageModel):
    """`UnitLanguageModel` of `UnitMBartForConditionalGeneration`.

    The separator is the vector with which the decoder starts, in the place of the language's token. Where states of
    every column are asked for, the decoder reads the utterance, too: the state of the column of `</s>` is that after
    `<s>`, a unit's is that after the unit, and the last column's is that after the separator.
    """

    function_fields: ClassVar[tuple[str, ...]] = (
        "num_attention_heads",
        "activation_function",
        "scale_embedding",
        "normalize_before",
        "inner_eos",
        "num_units",
        "language_token_id",
    )
    config_class = UnitMBartConfig
    peft_task_type = "SEQ_2_SEQ_LM"
    separator_path = "model.encoder.embed_tokens.separator"
    encoder_prompt_path = "model.encoder.encoder_prompt"
    config: UnitMBartConfig

    if TYPE_CHECKING:
        model: Any

    @property
    def num_units(self) -> int:
        """Units of the vocabulary; languages and the mask come behind them."""
        return self.config.num_units

    @property
    def num_encoder_prompt_layers(self) -> int:
        """The encoder's layers, which come first among `prompt_layers`."""
        return self.config.num_encoder_layers

    @property
    def max_utterance_tokens(self) -> int:
        """Tokens of the longest utterance, its start and separator among them."""
        return self.config.max_utterance_tokens

    @property
    def max_answer_tokens(self) -> int:
        """Tokens of the longest answer: the decoder's positions."""
        return int(self.config.max_position_embeddings)

    @property
    def _encoder(self) -> UnitMBartEncoder:
        return self.model.encoder

    @property
    def _decoder(self) -> UnitMBartDecoder:
        return self.model.decoder

    def prompt_layers(self) -> Sequence[PromptLayer]:
        """The self-attention of every layer, the encoder's first."""
        return [
            PromptLayer(
                normalize=_normalization(layer, self.config.normalize_before),
                k_proj=layer.self_attn.k_proj,
                v_proj=layer.self_attn.v_proj,
                num_heads=layer.self_attn.num_heads,
                head_dim=layer.self_attn.head_dim,
            )
            for layer in [*self._encoder.layers, *self._decoder.layers]
        ]

    def checkpointing_modules(self) -> Sequence[nn.Module]:
        """The two stacks; their dropouts are modules of their own, and their layers' dropouts belong to the layers."""
        return [self._encoder, self._decoder]

    def embed_utterances(self, input_ids: Tensor, separator: Tensor | None) -> Tensor:
        """Scaled embeddings."""
        embedding = self._encoder.embed_tokens
        vectors = embedding(input_ids)
        if separator is None:
            return vectors
        vector = separator.unsqueeze(1) if separator.dim() == 2 else separator
        is_separator = (input_ids == SEPARATOR_TOKEN_ID).unsqueeze(-1)
        return torch.where(is_separator, vector.to(vectors.dtype) * embedding.scale, vectors)

    def states_of_tokens(self, input_ids: Tensor) -> list[Tensor]:
        """States in the encoder's layers, then in the decoder's, as when an utterance of these units is read."""
        longest = self.max_utterance_tokens - 2
        if len(input_ids) > longest:
            parts = [self.states_of_tokens(part) for part in input_ids.split(longest)]
            return [torch.cat(states) for states in zip(*parts, strict=True)]
        start, end = input_ids.new_tensor([EOS_TOKEN_ID]), input_ids.new_tensor([SEPARATOR_TOKEN_ID])
        utterance = torch.cat([start, input_ids, end]).unsqueeze(0)
        mask = torch.ones_like(utterance)
        tokens, visible = self._encoder_tokens(utterance, mask)
        encoded = self._encoder(input_ids=tokens, attention_mask=visible, output_hidden_states=True)
        said = self._encoder.embed_tokens(self._decoder_tokens(utterance))
        _, inner = self._decoder(
            said, _positions(said), self._causal_mask(said, None), encoded.last_hidden_state, encoded.visible
        )
        vectors = self._encoder.embed_tokens(input_ids.unsqueeze(0))[0]
        return [
            self._encoder.layernorm_embedding(vectors),
            *(states[0, 1 : 1 + len(input_ids)] for states in encoded.hidden_states[1:-1]),
            self._decoder.layernorm_embedding(vectors),
            *(states[0, 2:] for states in inner[1:]),
        ]

    def read_utterances(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        prompt: PromptStates | None,
        *,
        at_separator: bool,
        keep_memory: bool = False,
    ) -> ReadUtterances:
        """Read utterances; the memory holds what the encoder says, and the separator."""
        ids, mask, order = _packed(input_ids, attention_mask)
        states, visible = self._encode(ids, mask, prompt)
        start = self._start_vectors(len(ids), prompt)
        if at_separator:
            vectors = start
        else:
            said = self._encoder.embed_tokens(self._decoder_tokens(ids))
            vectors = torch.cat([start, said[:, 1:]], dim=1)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if keep_memory else None
        hidden_states, _ = self._decoder(
            vectors, _positions(vectors), self._causal_mask(vectors, prompt), states, visible, cache, prompt
        )
        if not at_separator:
            hidden_states = _by_column(hidden_states, mask, order)
        return ReadUtterances(hidden_states, None if cache is None else _keep(cache, states, visible))

    def read_labels(
        self,
        memory: UtteranceMemory,
        vectors: Tensor,
        depths: Tensor,
        node_mask: Tensor,
        prompt: PromptStates | None,
    ) -> Tensor:
        """Read nodes as further columns of the decoder, each with the position that its depth gives it."""
        assert memory.encoder is not None
        mask = memory.seen_by_nodes(node_mask)
        if prompt is not None and prompt.num_key_columns:
            mask = show_columns(mask, prompt.num_key_columns, prompt.key_mask)
        mask = additive_mask(mask, self.config, self.dtype)
        hidden_states, _ = self._decoder(
            vectors,
            memory.positions(depths),
            mask,
            memory.encoder.states,
            for_rows(memory.encoder.visible, len(vectors)),
            EncoderDecoderCache(memory.said, memory.encoder.columns),
            replace(prompt or PromptStates(), read=memory.columns),
        )
        return hidden_states

    def read_labelled(
        self, input_ids: Tensor, attention_mask: Tensor, vectors: Tensor, prompt: PromptStates | None
    ) -> Tensor:
        """Read utterances with the encoder, and their labels after the separator with the decoder."""
        ids, mask, _ = _packed(input_ids, attention_mask)
        states, visible = self._encode(ids, mask, prompt)
        vectors = torch.cat([self._start_vectors(len(ids), prompt), vectors.to(states.dtype)], dim=1)
        hidden_states, _ = self._decoder(
            vectors, _positions(vectors), self._causal_mask(vectors, prompt), states, visible, None, prompt
        )
        return hidden_states

    def encoder_inputs(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """What the encoder was trained on: `<s>`, units, `</s>` where the model has it inside, `[language]`.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances: `</s>`, units, `<s>`; padding on either side.
            attention_mask (`Tensor` of shape `(B, N)`, *optional*): 1 for what is real; by default all but padding.

        Returns:
            `dict[str, Tensor]`: `input_ids` and `attention_mask`, int64 of shape `(B, M)`, padded on the right.
        """
        mask = input_ids.ne(PAD_TOKEN_ID) if attention_mask is None else attention_mask
        ids, mask = self._encoder_tokens(*_packed(input_ids, mask)[:2])
        return {"input_ids": ids, "attention_mask": mask}

    def _encode(self, ids: Tensor, mask: Tensor, prompt: PromptStates | None) -> tuple[Tensor, Tensor]:
        """What the encoder says of utterances that are padded on the right, `(B, M, D)`, and what of it is real."""
        tokens, visible = self._encoder_tokens(ids, mask)
        encoded = self._encoder(input_ids=tokens, attention_mask=visible, prompt=prompt, uses_own_prompt=False)
        return encoded.last_hidden_state, encoded.visible

    def _encoder_tokens(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's tokens `(B, M)` and mask of utterances that are padded on the right."""
        inner, language = int(self.config.inner_eos), self.config.language_token_id
        ids = nn.functional.pad(ids.masked_fill(mask == 0, PAD_TOKEN_ID), (0, inner), value=PAD_TOKEN_ID)
        end = mask.ne(0).sum(1, keepdim=True) - 1
        ids[:, 0] = SEPARATOR_TOKEN_ID
        if inner:
            ids = ids.scatter(1, end, EOS_TOKEN_ID)
        ids = ids.scatter(1, end + inner, language)
        columns = torch.arange(ids.shape[1], device=ids.device)
        return ids, (columns <= end + inner).long()

    def _decoder_tokens(self, ids: Tensor) -> Tensor:
        """`[language]`, `<s>`, units: `(B, N)` of utterances that are padded on the right."""
        said = ids.roll(1, dims=1)
        said[:, 0], said[:, 1] = self.config.language_token_id, SEPARATOR_TOKEN_ID
        return said

    def _start_vectors(self, batch_size: int, prompt: PromptStates | None) -> Tensor:
        """What the decoder starts with: `(B, 1, D)`."""
        embedding = self._encoder.embed_tokens
        start = embedding.start_row if prompt is None or prompt.separator is None else prompt.separator
        return (start.to(embedding.weight.dtype) * embedding.scale).expand(batch_size, -1).unsqueeze(1)

    def _causal_mask(self, vectors: Tensor, prompt: PromptStates | None) -> Tensor | None:
        return self.model.decoder_mask(vectors, None, None, prompt)


def _keep(cache: EncoderDecoderCache, states: Tensor, visible: Tensor) -> UtteranceMemory:
    """What labels are read after: the separator, the decoder's first column, and the encoder's states `(B, M, D)`."""
    columns = tuple(
        (keys[:, :, :1], values[:, :, :1]) for keys, values in columns_of_cache(cache.self_attention_cache)
    )
    return UtteranceMemory(
        columns,
        visible=visible.new_ones(len(visible), 1),
        lengths=visible.new_zeros(len(visible), dtype=torch.long),
        said=DynamicCache(),
        encoder=EncoderMemory(states, visible, cache.cross_attention_cache),
    )


def _normalization(layer: Any, normalize_before: bool) -> Callable[[Tensor], Tensor]:
    return partial(in_own_precision, layer.self_attn_layer_norm if normalize_before else None)


def _positions(vectors: Tensor) -> Tensor:
    return torch.arange(vectors.shape[1], device=vectors.device).unsqueeze(0)


def _packed(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Utterances padded on the right, their mask, and the column `(B, N)` from which each column came."""
    real = attention_mask.ne(0)
    order = (~real).long().argsort(dim=1, stable=True)
    return input_ids.gather(1, order), real.gather(1, order).long(), order


def _by_column(states: Tensor, mask: Tensor, order: Tensor) -> Tensor:
    """The decoder's states `(B, N, D)`, after separator, `<s>` and units, in the columns of the utterances."""
    num_columns = states.shape[1]
    columns = torch.arange(num_columns, device=states.device)
    after = (columns + 1).clamp(max=num_columns - 1).expand(len(states), -1)
    last = mask.sum(1, keepdim=True) - 1
    after = after.masked_fill(columns == last, 0).unsqueeze(-1).expand_as(states)
    # Packed column j is the utterance's column order[j].
    back = order.argsort(dim=1).unsqueeze(-1).expand_as(states)
    return states.gather(1, after).gather(1, back)
