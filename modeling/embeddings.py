"""Unit embeddings with a separator of their own while a prompt is active."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..core.errors import UnitError
from ..core.vocabulary import SEPARATOR_TOKEN_ID

__all__ = ["Separator", "UnitEmbedding", "belongs_to_adapters"]


def belongs_to_adapters(name: str) -> bool:
    """Whether a tensor of a base's state dictionary is a place that adapters fill: no file of a base holds it."""
    return any(part in f".{name}" for part in (".separator.", ".encoder_prompt."))


class Separator(nn.Module):
    """The trained separator as an offset from the embedding of `<s>`: zero means untrained.

    As a child of the embedding it exists on every base, so that PEFT can save it (`modules_to_save=["separator"]`) and
    restore it with a prompt; a base's own files never contain it. Frozen on a base, trainable in an adapter.

    The number of input prompts lies beside it, because PEFT hands input prompts over as nameless columns of
    `inputs_embeds`, and columns that are prompts must not count as positions.
    """

    num_prompt_columns: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1, hidden_size), requires_grad=False)
        self.register_buffer("num_prompt_columns", torch.zeros((), dtype=torch.long))

    def reset(self) -> None:
        """Makes it untrained again, unless its tensors were just loaded."""
        init.zeros_(self.offset)
        init.zeros_(self.num_prompt_columns)
        # Loading makes parameters that a file lacks anew, in its own precision and with gradients.
        self.float().requires_grad_(False)

    def forward(self, start_row: Tensor) -> Tensor:
        """The separator's vector.

        Args:
            start_row (`Tensor` of shape `(D,)`): the embedding that it begins as, unscaled.

        Returns:
            `Tensor` of shape `(D,)` in the dtype of `start_row`.
        """
        return (start_row.to(self.offset.dtype) + self.offset[0]).to(start_row.dtype)


class UnitEmbedding(nn.Embedding):
    """Scaled token embeddings whose `<s>` row can be replaced at the input only; the tied output head stays.

    Args:
        num_embeddings (`int`): vocabulary V.
        embedding_dim (`int`): width D.
        padding_idx (`int`): row of the padding.
        scale (`bool`): multiply by sqrt(D).
    """

    separator_token_id = SEPARATOR_TOKEN_ID
    """The token in whose place the separator stands."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, *, scale: bool) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.scale = math.sqrt(embedding_dim) if scale else 1.0
        self.separator = Separator(embedding_dim)

    @property
    def start_row(self) -> Tensor:
        """What the separator begins as: the unscaled row `(D,)` of the token in whose place it stands."""
        return self.weight[self.separator_token_id]

    def forward(self, input_ids: Tensor, separator: Tensor | bool = True) -> Tensor:
        """Scaled embeddings.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): token ids.
            separator (`Tensor` of shape `(D,)` or `(B, D)`, or `bool`, defaults to `True`): the vector of `<s>`,
                unscaled; `True` takes the own trained separator, `False` the row of `<s>`. `True` is the default
                because PEFT's prompt tuning calls the embedding itself; on a base the two are equal.

        Returns:
            `Tensor` of shape `(B, N, D)`.

        Raises:
            UnitError: on a CPU, an id is outside the vocabulary; GPUs stop with an error of their own.
        """
        try:
            vectors = super().forward(input_ids)
        except IndexError as error:
            # Looked at only now: a check before would cost every pass of a small model, and wait for a GPU.
            raise _outside(input_ids, self.num_embeddings) from error
        if separator is not False:
            vector = self.separator(self.start_row) if separator is True else separator
            vector = vector.to(vectors.dtype)
            vector = vector.unsqueeze(1) if vector.dim() == 2 else vector
            vectors = torch.where((input_ids == self.separator_token_id).unsqueeze(-1), vector, vectors)
        return vectors * self.scale


def _outside(input_ids: Tensor, vocab_size: int) -> UnitError:
    wrong = input_ids[(input_ids < 0) | (input_ids >= vocab_size)]
    what = f"token id {int(wrong[0])} is" if wrong.numel() else "a token id is"
    return UnitError(
        f"{what} outside the vocabulary of {vocab_size} tokens, 0 to {vocab_size - 1}",
        hint="units and language model must come from the same quantizer; input_ids are tokens, as its tokenizer "
        "makes them of units, not units",
    )
