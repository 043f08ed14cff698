"""What prompts begin with: states and vectors of units, random, frequent, or averaged over the rows of a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import ConfigurationError, LabelError, UnitError
from ..core.vocabulary import SPECIAL_TOKENS, UnitVocabulary
from .configuration_speechprompt import SpeechPromptConfig
from .unit_language_model import UnitLanguageModel

__all__ = [
    "ROWS_PER_CLASS",
    "TrainingRows",
    "check_rows",
    "initial_states",
    "initial_vectors",
    "token_states",
    "token_vectors",
]

ROWS_PER_CLASS = 100
"""A class mean is taken over so many rows at the most, drawn by the seed: the means of thousands differ little."""


@dataclass(frozen=True)
class TrainingRows:
    """Training rows, as far as the beginning of training looks at them.

    Attributes:
        token_rows (`tuple[tuple[int, ...], ...]`): unit token ids of each row.
        classes (`tuple[int, ...] | None`): class index of each row, where it is known.
        unit_of_token (`dict[int, int]`): the unit's number of each token id among them.
    """

    token_rows: tuple[tuple[int, ...], ...]
    classes: tuple[int, ...] | None
    unit_of_token: dict[int, int]

    @classmethod
    def encode(
        cls,
        config: SpeechPromptConfig,
        units: Iterable[Sequence[int]],
        classes: Iterable[int] | None,
        vocabulary: UnitVocabulary | None,
    ) -> TrainingRows:
        """Rows of units as rows of token ids.

        Args:
            config (`SpeechPromptConfig`): sizes.
            units (`Iterable[Sequence[int]]`): units of the rows.
            classes (`Iterable[int]`, *optional*): class indices of the rows.
            vocabulary (`UnitVocabulary`, *optional*): which token each unit is; numeric order without it.

        Raises:
            UnitError: a unit that the vocabulary or the base lacks.
        """
        num_units = config.unit_vocab_size - len(SPECIAL_TOKENS)
        if vocabulary is None:
            vocabulary = UnitVocabulary.from_num_units(num_units)
        rows = tuple(tuple(vocabulary.encode(row)) for row in units)
        tokens = sorted({token for row in rows for token in row})
        numbers = dict(zip(tokens, vocabulary.decode(tokens), strict=True))
        if tokens and tokens[-1] >= config.unit_vocab_size:
            raise UnitError(
                f"unit {numbers[tokens[-1]]} has the token id {tokens[-1]}, and the base has {num_units} units",
                hint="units and language model must come from the same quantizer",
            )
        return cls(rows, None if classes is None else tuple(int(index) for index in classes), numbers)

    def frequent_tokens(self, number: int) -> Tensor:
        """The token ids of the most frequent units, the most frequent first, ties by the unit's number.

        Args:
            number (`int`): how many P.

        Returns:
            `LongTensor` of shape `(P,)`.

        Raises:
            ConfigurationError: the rows have fewer distinct units.
        """
        counts = Counter(token for row in self.token_rows for token in row)
        if len(counts) < number:
            raise ConfigurationError(
                f"prompt_init 'frequent_units' needs {number} distinct units for {number} prompt columns, and the "
                f"training rows have {len(counts)}",
                hint=f"num_virtual_tokens of at most {len(counts)}, or another prompt_init",
            )
        ranked = sorted(counts, key=lambda token: (-counts[token], self.unit_of_token[token]))
        return torch.tensor(ranked[:number])

    def rows_of_class(self, index: int, config: SpeechPromptConfig) -> list[Tensor]:
        """The rows of a class, `LongTensor`s of shape `(N,)`; of many, `ROWS_PER_CLASS` drawn by `config.seed`.

        Raises:
            LabelError: the class has no row with a unit.
        """
        assert self.classes is not None
        pairs = zip(self.token_rows, self.classes, strict=True)
        rows = [row for row, own in pairs if own == index and row]
        if not rows:
            raise LabelError(
                f"prompt_init 'class_means' needs training rows of every class, and {config.class_names[index]!r} has "
                "none",
                hint="add rows of it, or choose another prompt_init",
            )
        if len(rows) > ROWS_PER_CLASS:
            generator = torch.Generator().manual_seed(config.seed)
            drawn = torch.randperm(len(rows), generator=generator)[:ROWS_PER_CLASS].sort().values
            rows = [rows[number] for number in drawn.tolist()]
        return [torch.tensor(row) for row in rows]


def check_rows(config: SpeechPromptConfig, rows: TrainingRows | None) -> None:
    """Refuse an initialisation from training rows without them.

    Args:
        config (`SpeechPromptConfig`): says what the prompt begins with.
        rows (`TrainingRows`, *optional*): what was given.

    Raises:
        ConfigurationError: the units or the classes of the training rows are missing, or differ in number.
        LabelError: a class that the configuration lacks.
    """
    if not config.starts_from_rows:
        return
    if rows is None or not rows.token_rows:
        raise ConfigurationError(
            f"prompt_init {config.prompt_init!r} needs the units of the training rows", hint="pass training_units"
        )
    if config.prompt_init != "class_means":
        return
    if rows.classes is None:
        raise ConfigurationError(
            "prompt_init 'class_means' needs the classes of the training rows", hint="pass training_labels"
        )
    if len(rows.classes) != len(rows.token_rows):
        raise ConfigurationError(
            f"{len(rows.token_rows)} training rows of units and {len(rows.classes)} of classes",
            hint="training_units and training_labels have an entry a row each",
        )
    strangers = [index for index in rows.classes if not 0 <= index < config.num_classes]
    if strangers:
        raise LabelError(
            f"a training row has the class {strangers[0]}", hint=f"classes are 0 … {config.num_classes - 1}"
        )


def initial_states(
    config: SpeechPromptConfig, lm: UnitLanguageModel, generator: torch.Generator | None, rows: TrainingRows | None
) -> list[Tensor]:
    """Normalised states that a deep prompt begins with, for the initialisations that take them from the base.

    Args:
        config (`SpeechPromptConfig`): `prompt_init` is `"vocabulary"`, `"frequent_units"` or `"class_means"`.
        lm (`UnitLanguageModel`): the language model.
        generator (`torch.Generator`, *optional*): draws random units.
        rows (`TrainingRows`, *optional*): see `check_rows`.

    Returns:
        `list` of `Tensor`s of shape `(P, D)`, float32 on the CPU: what stands in each of `lm.prompt_layers()` before
        the key and value projections.

    Raises:
        ConfigurationError: fewer distinct units than columns.
        LabelError: a class without rows.
    """
    layers = lm.prompt_layers()
    if config.prompt_init == "class_means":
        means = torch.stack([_class_states(lm, tokens) for tokens in _rows_of_columns(config, rows)])
        return list(_in_turn(means, config.num_virtual_tokens).unbind(1))
    if config.prompt_init == "frequent_units":
        assert rows is not None
        states = _states(lm, rows.frequent_tokens(config.num_virtual_tokens))
    else:
        states = token_states(lm, config.num_virtual_tokens, generator)
    with torch.no_grad():
        return [layer.normalize(state).cpu() for layer, state in zip(layers, states, strict=True)]


def initial_vectors(
    config: SpeechPromptConfig, lm: UnitLanguageModel, generator: torch.Generator | None, rows: TrainingRows | None
) -> Tensor:
    """Scaled embeddings that an input prompt begins with; the arguments and errors are those of `initial_states`.

    Returns:
        `Tensor` of shape `(P, D)`, float32 on the CPU.
    """
    if config.prompt_init == "class_means":
        means = [_vectors(lm, torch.cat(tokens)).double().mean(0).float() for tokens in _rows_of_columns(config, rows)]
        return _in_turn(torch.stack(means), config.num_virtual_tokens)
    if config.prompt_init == "frequent_units":
        assert rows is not None
        return _vectors(lm, rows.frequent_tokens(config.num_virtual_tokens))
    return token_vectors(lm, config.num_virtual_tokens, generator)


def token_states(lm: UnitLanguageModel, num_tokens: int, generator: torch.Generator | None) -> list[Tensor]:
    """States of random units, to start deep prompts from what the layers usually see.

    Args:
        lm (`UnitLanguageModel`): the language model.
        num_tokens (`int`): how many states P.
        generator (`torch.Generator`, *optional*): draws the units.

    Returns:
        `list` of `Tensor`s of shape `(P, D)`, float32 on the CPU: the input of each of `prompt_layers`.
    """
    return _states(lm, _random_units(lm, num_tokens, generator))


def token_vectors(lm: UnitLanguageModel, num_tokens: int, generator: torch.Generator | None) -> Tensor:
    """Input vectors of random units, to start input prompts from: float32 of shape `(P, D)` on the CPU."""
    return _vectors(lm, _random_units(lm, num_tokens, generator))


def _random_units(lm: UnitLanguageModel, num_tokens: int, generator: torch.Generator | None) -> Tensor:
    first = len(SPECIAL_TOKENS)
    return torch.randint(first, first + lm.num_units, (num_tokens,), generator=generator)


@torch.no_grad()
def _states(lm: UnitLanguageModel, tokens: Tensor) -> list[Tensor]:
    """Inputs `(N, D)` of each of `prompt_layers` while the units `(N,)` are read, float32 on the CPU."""
    was_training = lm.training
    lm.eval()
    # Longer than the positions is read in parts.
    parts = [lm.states_of_tokens(part.to(lm.device)) for part in tokens.split(lm.max_utterance_tokens - 2)]
    lm.train(was_training)
    return [torch.cat(states).float().cpu() for states in zip(*parts, strict=True)]


@torch.no_grad()
def _vectors(lm: UnitLanguageModel, tokens: Tensor) -> Tensor:
    """Scaled embeddings `(N, D)` of units `(N,)`, float32 on the CPU."""
    return lm.embed_utterances(tokens.to(lm.device).unsqueeze(0), None)[0].float().cpu()


def _rows_of_columns(config: SpeechPromptConfig, rows: TrainingRows | None) -> list[list[Tensor]]:
    """The rows of each class that has a column."""
    assert rows is not None
    num_classes = min(config.num_classes, config.num_virtual_tokens)
    return [rows.rows_of_class(index, config) for index in range(num_classes)]


@torch.no_grad()
def _class_states(lm: UnitLanguageModel, token_rows: Sequence[Tensor]) -> Tensor:
    """Means `(L, D)` over all units of the rows of what each layer projects."""
    layers = lm.prompt_layers()
    sums = torch.zeros(len(layers), lm.config.hidden_size, dtype=torch.float64)
    for tokens in token_rows:
        for total, layer, states in zip(sums, layers, _states(lm, tokens), strict=True):
            total += layer.normalize(states).cpu().double().sum(0)
    return (sums / sum(map(len, token_rows))).float()


def _in_turn(values: Tensor, number: int) -> Tensor:
    """`(number, …)`: the C values `(C, …)` in turn."""
    return values[torch.arange(number) % len(values)]
