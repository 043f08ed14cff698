"""What a prompt hands to a language model: vectors at the input, keys and values in the layers, a separator."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["PromptStates"]


@dataclass(frozen=True)
class PromptStates:
    """One prompt for the whole batch, or one prompt a row.

    Every tensor may have a leading batch dimension B: rows of different tasks then share a batch. Prompts have no
    positions and are visible to every token; they do not shift the positions of tokens.

    Attributes:
        separator (`Tensor` of shape `(D,)` or `(B, D)`, *optional*): the unscaled input embedding of `<s>`.
        inputs (`Tensor` of shape `(P, D)` or `(B, P, D)`, *optional*): vectors before the tokens, not scaled.
        keys, values (`tuple` of L `Tensor`s of shape `(P, H, D/H)` or `(B, P, H, D/H)`, *optional*): attention keys
            and values before those of the tokens, one tensor a layer.
    """

    separator: Tensor | None = None
    inputs: Tensor | None = None
    keys: tuple[Tensor, ...] | None = None
    values: tuple[Tensor, ...] | None = None

    def layer(self, index: int) -> tuple[Tensor | None, Tensor | None]:
        """Keys and values of layer `index`, or `(None, None)`."""
        if self.keys is None or self.values is None:
            return None, None
        return self.keys[index], self.values[index]

    @property
    def num_key_columns(self) -> int:
        """Columns P that the keys and values add to attention."""
        return 0 if self.keys is None else self.keys[0].shape[-3]

    @property
    def num_input_columns(self) -> int:
        """Columns P that the input vectors add to the sequence."""
        return 0 if self.inputs is None else self.inputs.shape[-2]
