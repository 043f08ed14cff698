"""What a language model keeps of utterances that it has read, for what is said after them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from .attention_parts import KeysAndValues

__all__ = ["EncoderMemory", "UtteranceMemory", "columns_of_cache", "for_rows"]

Columns = tuple[KeysAndValues, ...]


def for_rows(tensor: Tensor, num_rows: int) -> Tensor:
    """What is of shape `(U, …)`, for each of B rows: `(B, …)`."""
    return tensor.repeat_interleave(num_rows // len(tensor), dim=0)


def columns_of_cache(cache: DynamicCache) -> Columns:
    """Keys and values of every layer of a cache that was filled."""
    layers = cast(list[DynamicLayer], cache.layers)
    return tuple((cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers)


@dataclass(frozen=True)
class EncoderMemory:
    """What an encoder says of utterances.

    Attributes:
        states (`Tensor` of shape `(U, M, D)`): its states.
        visible (`BoolTensor` of shape `(U, M)`): real columns.
        columns (`DynamicCache`): keys and values of the decoder's cross-attention, of shape `(U, H, M, D/H)`; nothing
            is added to it.
    """

    states: Tensor
    visible: Tensor
    columns: DynamicCache

    def take(self, groups: Tensor) -> EncoderMemory:
        """These utterances, `LongTensor` of shape `(n,)`."""
        columns = DynamicCache(_take(columns_of_cache(self.columns), groups))
        return EncoderMemory(self.states[groups], self.visible[groups], columns)


@dataclass(frozen=True)
class UtteranceMemory:
    """U utterances that were read, and what B rows, a multiple of U, have said after them since.

    Neighbouring rows share an utterance: row b goes on from utterance `b // (B / U)`. What was read is never changed,
    and lies there once for all rows that go on from it.

    Attributes:
        columns (`tuple` of L pairs of `Tensor`s of shape `(U, G, N, D/H)`): keys and values of the utterances in every
            layer that says; without those of deep prompts.
        visible (`BoolTensor` of shape `(U, N)`): which of these columns are seen.
        lengths (`LongTensor` of shape `(U,)`): the position of the last token that was read.
        said (`DynamicCache`): keys and values of what was said, B rows; extended in place.
        encoder (`EncoderMemory`, *optional*): of an encoder-decoder model.
    """

    columns: Columns
    visible: Tensor
    lengths: Tensor
    said: DynamicCache
    encoder: EncoderMemory | None = None

    def begin(self, groups: Tensor) -> UtteranceMemory:
        """Nothing said yet after the utterances `groups`, `LongTensor` of shape `(B,)`: the one of each row."""
        return replace(self, said=DynamicCache())._share(groups)

    def take_rows(self, rows: Tensor, num_rows: int) -> UtteranceMemory:
        """The memory of these rows, in their order.

        Args:
            rows (`LongTensor` of shape `(n,)`): rows that are kept.
            num_rows (`int`): rows B that there were.

        Returns:
            `UtteranceMemory`: what was said is reordered in place. Rows that stay beside the rows of their utterance,
            as beams do, cost nothing more.
        """
        if self.said.get_seq_length():
            self.said.batch_select_indices(rows)
        return self._share(rows // (num_rows // len(self.visible)))

    def _share(self, groups: Tensor) -> UtteranceMemory:
        """The memory of rows that go on from utterances `groups`, `LongTensor` of shape `(B,)`."""
        num_groups = len(self.visible)
        neighbours = torch.arange(num_groups, device=groups.device).repeat_interleave(len(groups) // num_groups)
        if torch.equal(groups, neighbours):
            return self
        return replace(
            self,
            columns=_take(self.columns, groups),
            visible=self.visible[groups],
            lengths=self.lengths[groups],
            encoder=None if self.encoder is None else self.encoder.take(groups),
        )

    def seen_by_nodes(self, node_mask: Tensor) -> Tensor:
        """The mask of nodes: what they see of the utterances, then of each other.

        Args:
            node_mask (`BoolTensor` of shape `(B, T, T')`): of each other.

        Returns:
            `BoolTensor` of shape `(B, 1, T, N + T')`.
        """
        visible = for_rows(self.visible, len(node_mask))
        columns = visible.unsqueeze(1).expand(-1, node_mask.shape[1], -1)
        return torch.cat([columns, node_mask], dim=-1).unsqueeze(1)

    def positions(self, depths: Tensor) -> Tensor:
        """Positions `(B, T)` of nodes with `depths` `(B, T)` labels in their prefixes."""
        return for_rows(self.lengths, len(depths)).unsqueeze(1) + depths


def _take(columns: Columns, groups: Tensor) -> Columns:
    return tuple((keys[groups], values[groups]) for keys, values in columns)
