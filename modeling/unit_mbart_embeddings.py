"""Token embeddings and learned positions of the Unit mBART."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.errors import UnitError
from .embeddings import UnitEmbedding
from .positions import NO_POSITION

__all__ = ["LearnedPositions", "UnitMBartEmbedding"]


class UnitMBartEmbedding(UnitEmbedding):
    """Scaled token embeddings. The separator stands where the decoder starts, which the decoder sees to itself."""

    def forward(self, input_ids: Tensor, separator: Tensor | bool = False) -> Tensor:
        """Scaled embeddings `(B, N, D)` of token ids `(B, N)`; with a separator it stands in the first column."""
        vectors = super().forward(input_ids, separator=False)
        if separator is False:
            return vectors
        vector = self.separator(self.start_row) if separator is True else separator
        first = vector.to(vectors.dtype).expand(len(vectors), -1).unsqueeze(1) * self.scale
        return torch.cat([first, vectors[:, 1:]], dim=1)


class LearnedPositions(nn.Embedding):
    """fairseq's learned positions: position p (from 0) is row p + 2; columns without a position have a zero vector.

    Args:
        num_positions (`int`): longest sequence.
        hidden_size (`int`): width D.
    """

    offset = 2

    def __init__(self, num_positions: int, hidden_size: int) -> None:
        super().__init__(num_positions + self.offset, hidden_size)

    def forward(self, positions: Tensor) -> Tensor:
        """Vectors `(B, N, D)` of positions `(B, N)`, `NO_POSITION` for none.

        Raises:
            UnitError: a position is beyond the table.
        """
        num_positions = self.num_embeddings - self.offset
        if positions.shape[-1] and positions.device.type != "meta" and int(positions.max()) >= num_positions:
            raise UnitError(
                f"a sequence has {int(positions.max()) + 1} tokens, more than the base's {num_positions} positions",
                hint="cut the recording, or use a base with more positions",
            )
        positions = positions.to(self.weight.device)
        vectors = super().forward(positions.clamp(min=0) + self.offset)
        return vectors.masked_fill((positions == NO_POSITION).unsqueeze(-1), 0)
