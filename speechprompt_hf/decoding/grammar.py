"""Which sequences of output tokens a task allows: finite automata over an output vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError
from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS

__all__ = ["TokenGrammar", "grammar_of_parts", "grammar_of_sequences", "grammar_of_slots"]

DEAD = -1
"""The state of a sequence that the grammar does not allow."""


@dataclass(frozen=True)
class TokenGrammar:
    """A deterministic finite automaton over output tokens. State 0 is the start.

    Args:
        transitions (`Sequence[Mapping[int, int]]` of length S): for each state the next one of each allowed token.
        accepting (`frozenset[int]`): states in which a sequence may end with `</s>`.

    Attributes:
        distances (`NDArray[int64]` of shape `(S,)`): the fewest tokens from a state to the end, `</s>` among them.

    Raises:
        ConfigurationError: a state or token does not exist, or from a state that is reached there is no way to the
            end.
    """

    transitions: Sequence[Mapping[int, int]]
    accepting: frozenset[int]
    distances: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = len(self.transitions)
        for state, targets in enumerate(self.transitions):
            for token, target in targets.items():
                if token < len(SPECIAL_TOKENS) or not 0 <= target < number:
                    raise ConfigurationError(
                        f"state {state} leads by token {token} to state {target} of {number}",
                        hint="tokens are what is said, without special ones; states are counted from 0",
                    )
        object.__setattr__(self, "distances", self._distances())
        stuck = [state for state in self._reached() if self.distances[state] > number + 1]
        if stuck:
            raise ConfigurationError(
                f"from state {stuck[0]} no sequence can end", hint="name accepting states that can be reached from it"
            )

    def allowed(self, state: int) -> list[int]:
        """The tokens that may follow in a state, ascending; none in a dead one."""
        if state == DEAD:
            return []
        end = [EOS_TOKEN_ID] if state in self.accepting else []
        return sorted([*end, *self.transitions[state]])

    def state_after(self, tokens: Iterable[int]) -> int:
        """The state after tokens, without special ones; `-1` where they are not allowed."""
        state = 0
        for token in tokens:
            state = self.transitions[state].get(int(token), DEAD) if state != DEAD else DEAD
        return state

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether a whole sequence, without special tokens, is allowed."""
        return self.state_after(tokens) in self.accepting

    def table(self, vocab_size: int) -> NDArray[np.int64]:
        """The next state of each state and token, `(S, K)`; `-1` where the token is not allowed.

        Args:
            vocab_size (`int`): tokens K of the output vocabulary.

        Raises:
            ConfigurationError: the grammar knows tokens beyond.
        """
        table = np.full((len(self.transitions), vocab_size), DEAD, dtype=np.int64)
        for state, targets in enumerate(self.transitions):
            for token, target in targets.items():
                if token >= vocab_size:
                    raise ConfigurationError(
                        f"the grammar knows token {token}, the output vocabulary has {vocab_size}",
                        hint="make it with the model's own output tokenizer",
                    )
                table[state, token] = target
        return table

    def _distances(self) -> NDArray[np.int64]:
        number = len(self.transitions)
        far = np.full(number, 2 * number + 2, dtype=np.int64)
        far[[state for state in self.accepting if 0 <= state < number]] = 1
        before: list[list[int]] = [[] for _ in range(number)]
        for state, targets in enumerate(self.transitions):
            for target in set(targets.values()):
                before[target].append(state)
        front = [state for state in range(number) if far[state] == 1]
        while front:
            nearer = []
            for state in front:
                for previous in before[state]:
                    if far[previous] > far[state] + 1:
                        far[previous] = far[state] + 1
                        nearer.append(previous)
            front = nearer
        return far

    def _reached(self) -> set[int]:
        seen, front = {0}, [0]
        while front:
            targets = {target for state in front for target in self.transitions[state].values()} - seen
            seen |= targets
            front = list(targets)
        return seen


def grammar_of_sequences(sequences: Iterable[Sequence[int]]) -> TokenGrammar:
    """Exactly these sequences: a tree of their beginnings.

    Args:
        sequences (`Iterable[Sequence[int]]`): output tokens, without special ones.

    Raises:
        ConfigurationError: there are none, one is a text, or a special token is among them.
    """
    transitions: list[dict[int, int]] = [{}]
    accepting = set()
    for sequence in sequences:
        state = 0
        if isinstance(sequence, str):
            raise ConfigurationError(
                f"{sequence!r} is a text, not output tokens",
                hint="model.output_tokenizer(text, add_special_tokens=False)['input_ids']",
            )
        for token in sequence:
            following = transitions[state].get(int(token))
            if following is None:
                following = len(transitions)
                transitions[state][int(token)] = following
                transitions.append({})
            state = following
        accepting.add(state)
    return TokenGrammar(transitions, frozenset(accepting))


def grammar_of_parts(parts: Sequence[Iterable[int]]) -> TokenGrammar:
    """One token of each part, in the order of the parts: action, object, location.

    Args:
        parts (`Sequence[Iterable[int]]`): the tokens of each part.

    Raises:
        ConfigurationError: a part has no tokens, or a special token is among them.
    """
    transitions = [{int(token): number + 1 for token in part} for number, part in enumerate(parts)]
    return TokenGrammar([*transitions, {}], frozenset([len(parts)]))


def grammar_of_slots(
    slots: Sequence[tuple[int, int]], value_tokens: Iterable[int], *, in_order: bool = True
) -> TokenGrammar:
    """Slots that open, hold at least one token, and close; each at most once, or any slot any number of times.

    Args:
        slots (`Sequence[tuple[int, int]]`): the opening and the closing token of each slot.
        value_tokens (`Iterable[int]`): what may stand inside.
        in_order (`bool`, defaults to `True`): each slot at most once, in the order of `slots`; else any slot may
            follow any.

    Raises:
        ConfigurationError: there are no slots or no value tokens, a slot's token is a value or occurs twice, or a
            special token is among them.
    """
    values = [int(token) for token in value_tokens]
    marks = [int(token) for slot in slots for token in slot]
    shared = sorted(({*marks} & {*values}) | {token for token in marks if marks.count(token) > 1})
    if not slots or not values or shared:
        found = f"token {shared[0]} has two meanings" if shared else f"{len(slots)} slots, {len(values)} value tokens"
        raise ConfigurationError(found, hint="every slot needs two tokens of its own, and there must be values")
    # State 0 is before any slot; slot i has the states opened, filled and closed.
    transitions: list[dict[int, int]] = [{} for _ in range(1 + 3 * len(slots))]
    closed = [3 + 3 * index for index in range(len(slots))]
    for index, (_, closing) in enumerate(slots):
        opened, filled = 1 + 3 * index, 2 + 3 * index
        transitions[opened] |= {token: filled for token in values}
        transitions[filled] |= {token: filled for token in values} | {int(closing): closed[index]}
    for place, state in enumerate([0, *closed]):
        following = range(place if in_order else 0, len(slots))
        transitions[state] |= {int(slots[index][0]): 1 + 3 * index for index in following}
    return TokenGrammar(transitions, frozenset([0, *closed]))

