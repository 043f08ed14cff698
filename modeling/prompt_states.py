"""What a prompt hands to a language model: vectors at the input, keys and values in the layers, a separator."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .attention_parts import KeysAndValues

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
        input_mask (`BoolTensor` of shape `(B, P)`, *optional*): which columns of `inputs` a row has; all without it.
        key_mask (`BoolTensor` of shape `(B, P)`, *optional*): which columns of `keys` a row has; all without it.
        read (`tuple` of pairs of `Tensor`s of shape `(U, G, N, D/H)`, *optional*): keys and values of utterances that
            were read before, behind those of the prompt, one pair for each layer that says; U divides B.
    """

    separator: Tensor | None = None
    inputs: Tensor | None = None
    keys: tuple[Tensor, ...] | None = None
    values: tuple[Tensor, ...] | None = None
    input_mask: Tensor | None = None
    key_mask: Tensor | None = None
    read: tuple[KeysAndValues, ...] | None = None

    def layer(self, index: int) -> tuple[Tensor | None, Tensor | None]:
        """Keys and values of layer `index`, or `(None, None)`."""
        if self.keys is None or self.values is None:
            return None, None
        return self.keys[index], self.values[index]

    def read_layer(self, index: int) -> KeysAndValues | None:
        """Keys and values of the utterances in layer `index` of those that say."""
        return None if self.read is None else self.read[index]

    @property
    def num_key_columns(self) -> int:
        """Columns P that the keys and values add to attention."""
        return 0 if self.keys is None else self.keys[0].shape[-3]

    @property
    def num_input_columns(self) -> int:
        """Columns P that the input vectors add to the sequence."""
        return 0 if self.inputs is None else self.inputs.shape[-2]

    def take_rows(self, rows: Tensor) -> PromptStates:
        """The prompts of `rows` (`LongTensor` of shape `(n,)`), with as many columns as before, without utterances."""

        def take(tensor: Tensor | None, num_dims: int) -> Tensor | None:
            return tensor if tensor is None or tensor.dim() < num_dims else tensor[rows]

        def take_layers(tensors: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
            return None if tensors is None else tuple(t if t.dim() < 4 else t[rows] for t in tensors)

        return PromptStates(
            separator=take(self.separator, 2),
            inputs=take(self.inputs, 3),
            keys=take_layers(self.keys),
            values=take_layers(self.values),
            input_mask=take(self.input_mask, 2),
            key_mask=take(self.key_mask, 2),
        )
