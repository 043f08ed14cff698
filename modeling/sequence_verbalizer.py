"""From what the language model says to tokens of an output vocabulary, and back to what it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS, UNK_TOKEN_ID
from .configuration_speechprompt import SpeechPromptConfig
from .embeddings import UnitEmbedding
from .verbalizer_maps import check_room, random_map
from .verbalizer_tensors import initial_value, take_over

__all__ = ["NUM_NEVER_SAID", "SequenceVerbalizer"]

NUM_NEVER_SAID = 2
"""The first tokens of every output vocabulary, `<s>` and `<pad>`: they have no row."""

_NUM_SPECIAL = len(SPECIAL_TOKENS)


class SequenceVerbalizer(nn.Module):
    """Scores of the tokens of an output vocabulary at one position, and the vector that each is fed back as.

    Row r belongs to token r + 2: `</s>`, `<unk>`, which is never said and has the score `-inf`, then what is said. A
    learnable verbalizer is a linear map of the language model's logits without a bias; a fixed one takes the logit of
    a unit of each token's own, and for `</s>` that of the same token of the language model.

    Args:
        config (`SpeechPromptConfig`): kind, feedback, sizes.
        unit_tokens (`LongTensor` of shape `(K - 4,)`, *optional*): the unit token of each token that is said; drawn
            from `config.seed` where it is needed and not given.

    Raises:
        LabelError: more tokens than units, where every token needs a unit.

    Source:
        2408.13040 §0.5: ẑ = W z, and ê(y) = softmax(W_y / τ)·E fed back (`label_feedback="mixture"`).
    """

    unit_token_of_row: Tensor

    def __init__(self, config: SpeechPromptConfig, unit_tokens: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        shapes = self.shapes(config)
        self.weight: nn.Parameter | None
        self.embedding: nn.Parameter | None
        weight = initial_value(shapes["weight"], generator) if "weight" in shapes else None
        self.register_parameter("weight", None if weight is None else nn.Parameter(weight))
        embedding = torch.zeros(shapes["embedding"]) if "embedding" in shapes else None
        self.register_parameter("embedding", None if embedding is None else nn.Parameter(embedding))
        self.register_buffer("unit_token_of_row", self._unit_tokens_of_rows(unit_tokens))

    @staticmethod
    def shapes(config: SpeechPromptConfig) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a verbalizer's tensors, without making them.

        Args:
            config (`SpeechPromptConfig`): kind, feedback, sizes.

        Returns:
            `dict[str, tuple[int, ...]]`: `unit_token_of_row` (K - 2); `weight` (K - 2, V) of learnable ones;
            `embedding` (K - 2, D) where tokens are fed back as trained vectors.
        """
        num_rows = (config.output_vocab_size or 0) - NUM_NEVER_SAID
        shapes: dict[str, tuple[int, ...]] = {"unit_token_of_row": (num_rows,)}
        if config.verbalizer == "learnable":
            shapes["weight"] = (num_rows, config.vocab_size)
        if config.label_feedback == "learned":
            shapes["embedding"] = (num_rows, config.hidden_size)
        return shapes

    @property
    def needs_units(self) -> bool:
        """Whether every token needs a unit of its own: in a fixed map, or to be fed back as it."""
        return self.config.verbalizer != "learnable" or self.config.label_feedback == "token"

    def _unit_tokens_of_rows(self, unit_tokens: Tensor | None) -> Tensor:
        num_said = (self.config.output_vocab_size or 0) - _NUM_SPECIAL
        num_units = self.config.unit_vocab_size - _NUM_SPECIAL
        if self.needs_units and unit_tokens is None:
            check_room(num_said, num_units)
            if self.config.verbalizer == "learnable":
                unit_tokens = torch.arange(num_said) + _NUM_SPECIAL
            else:
                generator = torch.Generator().manual_seed(self.config.seed)
                unit_tokens = random_map(num_said, self.config.unit_vocab_size, generator)
        if unit_tokens is None:
            # Trained vectors begin as units, of which there may be fewer than tokens.
            unit_tokens = torch.arange(num_said) % num_units + _NUM_SPECIAL
        return torch.cat([torch.tensor([EOS_TOKEN_ID, UNK_TOKEN_ID]), unit_tokens.long().cpu()])

    @torch.no_grad()
    def begin_as_units(self, embedding: UnitEmbedding) -> None:
        """Let trained vectors begin as the language model's vectors of units.

        Args:
            embedding (`UnitEmbedding`): the language model's scaled unit embedding.
        """
        if self.embedding is not None:
            self.embedding.copy_(embedding.weight[self.unit_token_of_row].float() * embedding.scale)

    @torch.no_grad()
    def begin_as_same_units(self, unit_tokens: Tensor, embedding: UnitEmbedding) -> None:
        """Let what is said begin as what the language model itself would say: its units are the output vocabulary.

        Args:
            unit_tokens (`LongTensor` of shape `(K - 4,)`): the language model's token of each unit.
            embedding (`UnitEmbedding`): the language model's scaled unit embedding.
        """
        self.unit_token_of_row[_NUM_SPECIAL - NUM_NEVER_SAID :] = unit_tokens.to(self.unit_token_of_row.device)
        if self.weight is not None:
            self.weight.zero_()
            self.weight.scatter_(1, self.unit_token_of_row[:, None], 1.0)
        self.begin_as_units(embedding)

    def row_scores(self, logits: Tensor) -> Tensor:
        """Scores of all rows.

        Args:
            logits (`Tensor` of shape `(…, V)`): the language model's logits where a token is about to be said.

        Returns:
            `Tensor` of shape `(…, K - 2)`, float32.
        """
        logits = logits.float()
        if self.weight is None:
            scores = logits[..., self.unit_token_of_row]
        else:
            scores = nn.functional.linear(logits, self.weight.float()).float()
        scores = nn.functional.dropout(scores, self.config.verbalizer_dropout, self.training)
        unknown = torch.arange(scores.shape[-1], device=scores.device) == UNK_TOKEN_ID - NUM_NEVER_SAID
        return scores.masked_fill(unknown, -torch.inf)

    def token_scores(self, logits: Tensor) -> Tensor:
        """Scores `(…, K)` of all tokens, float32; `-inf` for those that are never said."""
        return nn.functional.pad(self.row_scores(logits), (NUM_NEVER_SAID, 0), value=-torch.inf)

    def feedback(self, embedding: UnitEmbedding) -> Tensor:
        """What the language model reads of each token once it is said.

        Args:
            embedding (`UnitEmbedding`): the language model's scaled unit embedding.

        Returns:
            `Tensor` of shape `(K, D)`; zero for tokens that are never said.
        """
        vectors: Tensor
        if self.embedding is not None:
            vectors = self.embedding
        elif self.config.label_feedback == "mixture" and self.weight is not None:
            shares = (self.weight.float() / self.config.feedback_temperature).softmax(-1)
            vectors = (shares @ embedding.weight.float()) * embedding.scale
        else:
            vectors = embedding(self.unit_token_of_row.unsqueeze(0), separator=False)[0]
        return nn.functional.pad(vectors, (0, 0, NUM_NEVER_SAID, 0))

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over saved tensors, comparing names and shapes.

        Raises:
            AdapterError: they differ.
        """
        take_over(self, tensors)
