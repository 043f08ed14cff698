"""The units that speak for each label: weights of the verbalizer, and answers to single units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import ConfigurationError, LabelError
from ..core.vocabulary import EOS_TOKEN_ID, SEPARATOR_TOKEN_ID, SPECIAL_TOKENS
from .recording import check_is_classifier
from .scoring import all_log_odds

__all__ = ["LabelExplanation", "UnitWeight", "explain_labels"]

Evidence = Literal["weights", "mean_weights", "heard"]
_UNITS_AT_ONCE = 1024


@dataclass(frozen=True)
class UnitWeight:
    """How much one unit speaks for a label.

    Attributes:
        unit (`int`): the unit.
        weight (`float`): above 0.
    """

    unit: int
    weight: float


@dataclass(frozen=True, eq=False)
class LabelExplanation:
    """What each label of an adapter listens for.

    Attributes:
        labels (`tuple[str, ...]` of length M): the labels.
        units (`NDArray[int64]` of shape `(K,)`): the units of the vocabulary, rising.
        heard (`NDArray[float32]` of shape `(M, K)`): by how much the log-odds of the label rise when the utterance
            is this unit alone instead of nothing. It holds for every adapter.
        weights (`NDArray[float32]` of shape `(M, K)`, *optional*): what the verbalizer gives the label for the
            language model's score of the unit that comes next, less its mean over labels; where it reads everywhere
            (readout `"pooled"`) at the place that suits the label best. `None` where no weight belongs to a unit.
        mean_weights (`NDArray[float32]` of shape `(M, K)`, *optional*): of readout `"pooled"` what it gives for the
            mean probability of the unit over the utterance.
        note (`str`): how the verbalizer reads, in a sentence.
    """

    labels: tuple[str, ...]
    units: NDArray[np.int64]
    heard: NDArray[np.float32]
    weights: NDArray[np.float32] | None
    mean_weights: NDArray[np.float32] | None
    note: str

    def strongest(self, label: str, number: int = 5, by: Evidence = "heard") -> list[UnitWeight]:
        """The units that speak most for a label, the strongest first; only those that speak for it.

        Args:
            label (`str`): one of `labels`.
            number (`int`, defaults to 5): at most so many.
            by (`str`, defaults to `"heard"`): `"weights"`, `"mean_weights"` or `"heard"`.

        Raises:
            ConfigurationError: this adapter has no such weights.
            LabelError: there is no such label.
        """
        values = getattr(self, by) if by in ("weights", "mean_weights", "heard") else None
        if values is None:
            raise ConfigurationError(f"this adapter has no {by!r}: {self.note}", hint="by='heard' holds for all")
        if label not in self.labels:
            raise LabelError(f"{label!r} is no label of this model", hint=f"one of {', '.join(self.labels[:20])}")
        row = values[self.labels.index(label)]
        order = np.argsort(-row, kind="stable")[:number]
        return [UnitWeight(int(self.units[place]), float(row[place])) for place in order if row[place] > 0]


def explain_labels(model: Any) -> LabelExplanation:
    """Say for every label of an adapter which units speak for it. No recording is needed.

    Args:
        model (`SpeechPromptForAudioClassification`): put into evaluation mode.

    Returns:
        `LabelExplanation`.

    Raises:
        AdapterError: the model says texts.
    """
    check_is_classifier(model)
    model.eval()
    vocabulary = model.vocabulary
    units = np.array([int(symbol) for symbol in vocabulary.symbols], dtype=np.int64)
    order = np.argsort(units)
    weights, mean_weights, note = _weights(model.verbalizer, len(units))
    return LabelExplanation(
        labels=tuple(model.config.id2label[index] for index in range(model.config.num_labels)),
        units=units[order],
        heard=_heard(model, len(units))[:, order],
        weights=None if weights is None else weights[:, order],
        mean_weights=None if mean_weights is None else mean_weights[:, order],
        note=note,
    )


@torch.no_grad()
def _heard(model: Any, num_units: int) -> NDArray[np.float32]:
    """Log-odds `(M, K)` after one unit less those after none, columns in the order of the tokens."""
    tokens = torch.arange(num_units, device=model.device).unsqueeze(1) + len(SPECIAL_TOKENS)

    def after(middle: Tensor) -> Tensor:
        ids = torch.nn.functional.pad(middle, (1, 0), value=EOS_TOKEN_ID)
        ids = torch.nn.functional.pad(ids, (0, 1), value=SEPARATOR_TOKEN_ID)
        return all_log_odds(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.double().cpu())

    odds = torch.cat([after(part) for part in tokens.split(_UNITS_AT_ONCE)])
    return (odds - after(tokens[:1, :0])).T.numpy().astype(np.float32)


def _weights(verbalizer: Any, num_units: int) -> tuple[NDArray[Any] | None, NDArray[Any] | None, str]:
    """Weights of units for every class, of the mean distribution as well, and how the verbalizer reads."""
    config = verbalizer.config
    place = {
        "pooled": "wherever in the utterance it suits the label best",
        "separator": "after the whole utterance",
    }.get(config.readout, "")
    if config.readout == "hidden":
        return None, None, "the verbalizer reads hidden states, none of whose dimensions is a unit"
    if verbalizer.hidden_weight is not None:
        return None, None, "the verbalizer has two layers, so no weight of it belongs to a unit"
    if verbalizer.weight is None:
        own = torch.nn.functional.one_hot(verbalizer.unit_token_of_row.cpu(), config.vocab_size)
        return (
            _of_classes(verbalizer, own.double(), num_units, centred=False),
            None,
            f"the verbalizer is fixed: a label is the unit that stands for it, {place}",
        )
    weight = verbalizer.weight.detach().double().cpu()
    note = f"weights are of the units that the language model expects next, {place}"
    if config.readout == "separator":
        return _of_classes(verbalizer, weight, num_units), None, note
    of_logits, of_mean = weight.chunk(2, dim=-1)
    return _of_classes(verbalizer, of_logits, num_units), _of_classes(verbalizer, of_mean, num_units), note


def _of_classes(verbalizer: Any, weight: Tensor, num_units: int, *, centred: bool = True) -> NDArray[np.float32]:
    """Weights `(M, K)` of units from those of verbalizer rows `(R, V)`; of several labels their sum.

    What all labels of a position have in common changes no probability, and is taken off.
    """
    if centred:
        weight = torch.cat([weight[rows] - weight[rows].mean(0) for rows in verbalizer.rows.slices])
    units = weight[:, len(SPECIAL_TOKENS) : len(SPECIAL_TOKENS) + num_units]
    summed: NDArray[np.float32] = units[verbalizer.rows.row_of_class].sum(1).numpy().astype(np.float32)
    return summed
