"""From what the language model says to scores of labels: fixed and learnable verbalizers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.vocabulary import SPECIAL_TOKENS
from .configuration_speechprompt import SpeechPromptConfig
from .embeddings import UnitEmbedding
from .label_rows import LabelRows
from .verbalizer_maps import check_room, random_map
from .verbalizer_tensors import initial_value, take_over

__all__ = ["VerbalizerHead"]


class VerbalizerHead(nn.Module):
    """Scores of labels from what the language model says at the places where the verbalizer reads.

    Rows of scores are those of `LabelRows`. A learnable verbalizer is a linear map of the logits (not of
    probabilities) without a bias; readout `"hidden"` is a linear map of the mean hidden state with one. With
    `verbalizer_hidden_size` H it has two layers: H detectors, relu of a linear map of logits or states, and a linear
    map of these (for readout `"pooled"` of their maxima and means), both with biases. A fixed verbalizer takes the
    logit of the label's unit. Dropout on the scores acts in training only.

    Args:
        config (`SpeechPromptConfig`): kind, readout, labels, sizes.
        unit_tokens (`LongTensor` of shape `(T,)`, *optional*): the unit token of each distinct label token, ascending,
            for fixed verbalizers and for label feedback; drawn from `config.seed` where it is needed and not given.

    Raises:
        LabelError: more labels than units where every label needs a unit.

    Source:
        SpeechPrompt v2 `--linear_verbalizer`: scores are `W·logits`, then dropout.
    """

    unit_token_of_row: Tensor

    def __init__(self, config: SpeechPromptConfig, unit_tokens: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.rows = LabelRows(config.num_classes, config.label_sequences)
        generator = torch.Generator().manual_seed(config.seed)
        self.weight: nn.Parameter | None
        self.bias: nn.Parameter | None
        self.hidden_weight: nn.Parameter | None
        self.hidden_bias: nn.Parameter | None
        shapes = self.shapes(config)
        for name in ("weight", "bias", "hidden_weight", "hidden_bias"):
            value = initial_value(shapes[name], generator) if name in shapes else None
            self.register_parameter(name, None if value is None else nn.Parameter(value))
        self.register_buffer("unit_token_of_row", self._unit_tokens_of_rows(unit_tokens))

    @staticmethod
    def shapes(config: SpeechPromptConfig) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a verbalizer's tensors, without making them.

        Args:
            config (`SpeechPromptConfig`): kind, readout, labels, sizes.

        Returns:
            `dict[str, tuple[int, ...]]`: `unit_token_of_row` (R); of learnable ones `weight` (R, features), and as far
            as it has them `bias` (R), `hidden_weight` (H, V or D), `hidden_bias` (H).
        """
        num_rows = len(LabelRows(config.num_classes, config.label_sequences))
        shapes: dict[str, tuple[int, ...]] = {"unit_token_of_row": (num_rows,)}
        if config.verbalizer == "learnable":
            shapes["weight"] = (num_rows, _num_features(config))
            if config.readout == "hidden" or config.verbalizer_hidden_size:
                shapes["bias"] = (num_rows,)
            if config.verbalizer_hidden_size:
                num_inputs = config.hidden_size if config.readout == "hidden" else config.vocab_size
                shapes["hidden_weight"] = (config.verbalizer_hidden_size, num_inputs)
                shapes["hidden_bias"] = (config.verbalizer_hidden_size,)
        return shapes

    @property
    def needs_units(self) -> bool:
        """Whether every label needs a unit of its own: in a fixed map, or to be fed back as a token."""
        return self.config.verbalizer != "learnable" or self.feeds_tokens

    @property
    def feeds_tokens(self) -> bool:
        """Whether earlier labels are fed back as unit tokens."""
        config = self.config
        return config.num_label_positions > 1 and config.readout == "separator" and config.label_feedback == "token"

    def _unit_tokens_of_rows(self, unit_tokens: Tensor | None) -> Tensor:
        label_tokens = self.rows.label_tokens
        if not self.needs_units:
            return torch.zeros(len(self.rows), dtype=torch.long)
        if unit_tokens is None:
            if self.config.verbalizer == "learnable":
                # The public code feeds label i back as token 4 + i.
                check_room(len(label_tokens), self.config.unit_vocab_size - len(SPECIAL_TOKENS))
                unit_tokens = torch.arange(len(label_tokens)) + len(SPECIAL_TOKENS)
            else:
                generator = torch.Generator().manual_seed(self.config.seed)
                unit_tokens = random_map(len(label_tokens), self.config.unit_vocab_size, generator)
        unit_of_label = dict(zip(label_tokens, unit_tokens.tolist(), strict=True))
        return torch.tensor([unit_of_label[token] for _, token in self.rows.labels])

    def scores_at(self, logits: Tensor, position: int) -> Tensor:
        """Scores of a label position's labels where the language model is about to say it.

        Args:
            logits (`Tensor` of shape `(…, V)`): the language model's logits there.
            position (`int`): label position, 0 … k - 1.

        Returns:
            `Tensor` of shape `(…, R_position)`, float32.
        """
        rows = self.rows.slices[position]
        return self._drop(self._score(self._detect(logits.float()), rows))

    def scores_of_states(self, hidden_states: Tensor, mask: Tensor) -> Tensor:
        """Scores of all rows from the mean hidden state, for readout `"hidden"`.

        Args:
            hidden_states (`Tensor` of shape `(B, N, D)`): the language model's last hidden states.
            mask (`Tensor` of shape `(B, N)`): 1 for real positions; at least one a row.

        Returns:
            `Tensor` of shape `(B, R)`, float32.
        """
        real = mask.ne(0).unsqueeze(-1)
        mean = (hidden_states.float() * real).sum(1) / real.sum(1)
        return self._drop(self._score(self._detect(mean), slice(0, len(self.rows))))

    def scores_of_utterance(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of all rows from every position of the utterance, for readout `"pooled"`.

        A linear verbalizer scores every position and takes each row's highest score, so that one telling place in the
        utterance is enough; a second map scores the mean of the predicted distributions, and is added. With two layers
        the detectors look at every position, and the second layer sees the maximum and the mean of each. A fixed
        verbalizer takes the highest logit of the label's unit.

        Args:
            logits (`Tensor` of shape `(B, N, V)`): the language model's logits.
            mask (`Tensor` of shape `(B, N)`): 1 for real positions; at least one a row.

        Returns:
            `Tensor` of shape `(B, R)`, float32.
        """
        logits = logits.float()
        real = mask.ne(0).unsqueeze(-1)
        at_positions = self._normalize(logits)
        lowest = torch.finfo(logits.dtype).min
        if self.weight is None:
            return self._drop(at_positions[..., self.unit_token_of_row].masked_fill(~real, lowest).amax(1))
        if self.hidden_weight is not None:
            detected = self._detect(at_positions)
            # Detections are not negative: where padding is zero, it is never the maximum alone.
            detected = detected * real
            features = torch.cat([detected.amax(1), detected.sum(1) / real.sum(1)], dim=-1)
            return self._drop(self._score(features, slice(0, len(self.rows))))
        weight_of_logits, weight_of_mean = self.weight.float().chunk(2, dim=-1)
        # Autocast multiplies in bfloat16, where the lowest float32 does not exist.
        highest = (at_positions @ weight_of_logits.T).float().masked_fill(~real, lowest).amax(1)
        mean = (logits.softmax(-1) * real).sum(1) / real.sum(1)
        return self._drop(highest + self._normalize(mean) @ weight_of_mean.T)

    def _normalize(self, values: Tensor) -> Tensor:
        if not self.config.normalize_pooled:
            return values
        # Mean probabilities have variances far below the usual epsilon when V is large.
        return nn.functional.layer_norm(values, values.shape[-1:], eps=1e-12)

    def _detect(self, features: Tensor) -> Tensor:
        """The first layer's features `(…, H)`, where there are two layers."""
        if self.hidden_weight is None or self.hidden_bias is None:
            return features
        return nn.functional.linear(features, self.hidden_weight.float(), self.hidden_bias.float()).float().relu()

    def _score(self, features: Tensor, rows: slice) -> Tensor:
        if self.weight is None:
            return features[..., self.unit_token_of_row[rows]]
        bias = None if self.bias is None else self.bias[rows].float()
        return nn.functional.linear(features, self.weight[rows].float(), bias).float()

    def _drop(self, scores: Tensor) -> Tensor:
        return nn.functional.dropout(scores, self.config.verbalizer_dropout, self.training)

    def class_scores(self, row_scores: Tensor) -> Tensor:
        """Class scores from scores of all rows.

        Args:
            row_scores (`Tensor` of shape `(B, R)`): scores.

        Returns:
            `Tensor` of shape `(B, M)`: the scores themselves for one label position; for several the sum of each
            position's log-softmax, as k independent heads.
        """
        if self.rows.num_positions == 1:
            return row_scores[:, self.rows.row_of_class[:, 0].to(row_scores.device)]
        log_probabilities = torch.cat([row_scores[:, rows].log_softmax(-1) for rows in self.rows.slices], dim=-1)
        return log_probabilities[:, self.rows.row_of_class.to(row_scores.device)].sum(-1)

    def feedback(self, embedding: UnitEmbedding) -> Tensor:
        """What the language model sees of each row's label once it is said.

        Args:
            embedding (`UnitEmbedding`): the language model's scaled unit embedding.

        Returns:
            `Tensor` of shape `(R, D)`.
        """
        if self.config.label_feedback == "mixture" and self.weight is not None:
            shares = (self.weight.float() / self.config.feedback_temperature).softmax(-1)
            return (shares @ embedding.weight.float()) * embedding.scale
        return embedding(self.unit_token_of_row.unsqueeze(0))[0]

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over saved tensors, comparing names and shapes.

        Raises:
            AdapterError: they differ.
        """
        take_over(self, tensors)


def _num_features(config: SpeechPromptConfig) -> int:
    """Columns of a learnable verbalizer's weight."""
    if config.verbalizer_hidden_size:
        return (2 if config.readout == "pooled" else 1) * config.verbalizer_hidden_size
    return {"separator": 1, "pooled": 2}.get(config.readout, 0) * config.vocab_size or config.hidden_size
