"""What prompts, verbalizers and label reading ask of a base, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..core.vocabulary import SPECIAL_TOKENS
from .embeddings import UnitEmbedding
from .prompt_states import PromptStates
from .utterance_memory import UtteranceMemory

__all__ = [
    "PromptLayer",
    "ReadUtterances",
    "UnitLanguageModel",
    "in_own_precision",
    "last_real_column",
]


def last_real_column(attention_mask: Tensor) -> Tensor:
    """The column of each row's last real token, `LongTensor` of shape `(B,)`; padding may be on either side."""
    real = attention_mask.ne(0).long()
    return real.shape[1] - 1 - real.flip(1).argmax(1)


@dataclass(frozen=True)
class PromptLayer:
    """One self-attention that a deep prompt reaches.

    Attributes:
        normalize (`Callable`): what the layer does to its input states `(P, D)` before it projects them.
        k_proj, v_proj (`nn.Linear`): the frozen projections from width D to `num_heads * head_dim`.
        num_heads (`int`): heads of keys and values.
        head_dim (`int`): width of one.
        normalize_keys (`Callable`, *optional*): what the layer does to projected keys `(P, num_heads, head_dim)`
            before it stores them.
    """

    normalize: Callable[[Tensor], Tensor]
    k_proj: nn.Linear
    v_proj: nn.Linear
    num_heads: int
    head_dim: int
    normalize_keys: Callable[[Tensor], Tensor] | None = None

    @property
    def width(self) -> int:
        """Width of its keys, and of its values."""
        return self.num_heads * self.head_dim

    def keys_of(self, vectors: Tensor) -> Tensor:
        """Keys `(P, width)` of normalised states `(P, D)` without positions, in float32."""
        keys = _project(self.k_proj, vectors)
        if self.normalize_keys is None:
            return keys
        return self.normalize_keys(keys.unflatten(-1, (self.num_heads, self.head_dim))).flatten(-2)

    def values_of(self, vectors: Tensor) -> Tensor:
        """Values `(P, width)` of normalised states `(P, D)`, in float32."""
        return _project(self.v_proj, vectors)


def in_own_precision(norm: nn.Module | None, states: Tensor) -> Tensor:
    """Normalises states of any precision in the precision of the normalisation.

    Args:
        norm (`nn.Module`, *optional*): a normalisation; without one the states stay as they are.
        states (`Tensor` of shape `(P, D)`): inputs of a layer.

    Returns:
        `Tensor` of shape `(P, D)`, float32.
    """
    weight = getattr(norm, "weight", None)
    normalised: Tensor = states if norm is None else norm(states if weight is None else states.to(weight))
    return normalised.float()


@dataclass(frozen=True)
class ReadUtterances:
    """A batch of utterances that a language model has read.

    Attributes:
        hidden_states (`Tensor` of shape `(B, 1 or N, D)`): where they were asked for: after the separator, or in
            every column.
        memory (`UtteranceMemory`, *optional*): what reading labels goes on from, where it was asked for.
    """

    hidden_states: Tensor
    memory: UtteranceMemory | None = None


class UnitLanguageModel(PreTrainedModel, ABC):
    """A base: a frozen language model over units that a prompt steers.

    Token ids are those of `UnitVocabulary`; an utterance is `</s>`, units, `<s>`, and a base turns it into what it was
    trained on. Prompts have no positions, are visible to every token, and shift nothing.
    """

    function_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of the configuration that change what the same weights compute; part of the base's fingerprint."""

    peft_task_type: ClassVar[str] = "CAUSAL_LM"
    """PEFT's name of this kind of model."""

    separator_path: ClassVar[str] = "model.embed_tokens.separator"
    """Where the embedding's separator is, from the model."""

    encoder_prompt_path: ClassVar[str | None] = None
    """Where an encoder keeps the part of a deep prompt that PEFT's table does not reach, from the model."""

    lm_head: nn.Module
    """Hidden states `(…, D)` to logits `(…, V)`."""

    @property
    def num_units(self) -> int:
        """Units of the vocabulary; further tokens, such as languages, come behind them."""
        return int(self.config.vocab_size) - len(SPECIAL_TOKENS)

    @property
    def num_encoder_prompt_layers(self) -> int:
        """The first so many of `prompt_layers` are an encoder's."""
        return 0

    @property
    def max_utterance_tokens(self) -> int:
        """Tokens of the longest utterance, its start and separator among them."""
        return int(self.config.max_position_embeddings)

    @property
    def max_answer_tokens(self) -> int | None:
        """Tokens of the longest answer, where answers have positions of their own; else `None`."""
        return None

    @abstractmethod
    def get_input_embeddings(self) -> UnitEmbedding:
        """The embedding of the token ids of `UnitVocabulary`."""

    @abstractmethod
    def prompt_layers(self) -> Sequence[PromptLayer]:
        """The self-attentions that a deep prompt reaches, in the order of its vectors."""

    @abstractmethod
    def checkpointing_modules(self) -> Sequence[nn.Module]:
        """Modules that checkpoint gradients while their own `training` is set."""

    @abstractmethod
    def embed_utterances(self, input_ids: Tensor, separator: Tensor | None) -> Tensor:
        """Input vectors `(B, N, D)` of token ids; `separator` (`(D,)` or `(B, D)`) stands for `<s>` if given."""

    @abstractmethod
    def states_of_tokens(self, input_ids: Tensor) -> list[Tensor]:
        """States `(N, D)` of unit tokens `(N,)`: the input of each of `prompt_layers`.

        Prompts have no positions: what the first layer sees is without them.
        """

    @abstractmethod
    def read_utterances(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        prompt: PromptStates | None,
        *,
        at_separator: bool,
        keep_memory: bool = False,
    ) -> ReadUtterances:
        """Read utterances.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): `</s>`, units, `<s>`; padding on either side.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for what is real.
            prompt (`PromptStates`, *optional*): the prompt, one for all rows or one a row.
            at_separator (`bool`): states of the position after the separator only, `(B, 1, D)`; else `(B, N, D)`,
                column by column.
            keep_memory (`bool`, defaults to `False`): labels will be read afterwards.
        """

    @abstractmethod
    def read_labels(
        self,
        memory: UtteranceMemory,
        vectors: Tensor,
        depths: Tensor,
        node_mask: Tensor,
        prompt: PromptStates | None,
    ) -> Tensor:
        """Read prefixes of label sequences after utterances, all nodes of a tree at once, a tree a row.

        Args:
            memory (`UtteranceMemory`): of utterances that were read; what is said is added in place.
            vectors (`Tensor` of shape `(B, T, D)`): what is fed in at the nodes: each one's last label.
            depths (`LongTensor` of shape `(B, T)`): labels in each node's prefix, from 1.
            node_mask (`BoolTensor` of shape `(B, T, T')`): what a node sees: nodes read before that are still in the
                memory, then those of this call, itself among them.
            prompt (`PromptStates`, *optional*): the prompt that the utterances were read with.

        Returns:
            `Tensor` of shape `(B, T, D)`: states after every node.
        """

    @abstractmethod
    def read_labelled(
        self, input_ids: Tensor, attention_mask: Tensor, vectors: Tensor, prompt: PromptStates | None
    ) -> Tensor:
        """Read utterances together with their known labels, for teacher forcing.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for what is real.
            vectors (`Tensor` of shape `(B, K - 1, D)`): what is fed in for all labels but the last.
            prompt (`PromptStates`, *optional*): the prompt.

        Returns:
            `Tensor` of shape `(B, K, D)`: states after the separator and after each of these labels.
        """


def _project(projection: nn.Linear, vectors: Tensor) -> Tensor:
    """`vectors` `(P, D)` through a frozen projection and its bias, in float32 whatever the model's precision."""
    bias = None if projection.bias is None else projection.bias.float()
    return nn.functional.linear(vectors.float(), projection.weight.float(), bias)
