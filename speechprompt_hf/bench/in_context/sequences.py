"""An episode as one sequence of token ids: `</s> x1 <s> y1 x2 <s> y2 … xq <s>`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import ConfigurationError
from ...core.vocabulary import EOS_TOKEN_ID, PAD_TOKEN_ID, SEPARATOR_TOKEN_ID
from .episodes import Episode

__all__ = ["EpisodeBatch", "LaidOut", "batch_episodes", "check_lengths", "episode_length", "lay_out"]


@dataclass(frozen=True)
class LaidOut:
    """A laid-out episode.

    Attributes:
        token_ids (`tuple[int, ...]` of length T): the sequence; it ends with the query's separator.
        columns (`tuple[int, ...]` of length K): the separators that a label is asked after, the query's last.
        answers (`tuple[int, ...]` of length K): the class, from 0 to N - 1, that is right after each.
    """

    token_ids: tuple[int, ...]
    columns: tuple[int, ...]
    answers: tuple[int, ...]


def lay_out(episode: Episode, tokens: Sequence[Sequence[int]], *, ask_repeats: bool = False) -> LaidOut:
    """Lay an episode out.

    Args:
        episode (`Episode`): what is told and asked.
        tokens (`Sequence[Sequence[int]]`): token ids of the units of every row.
        ask_repeats (`bool`, defaults to `False`): examples whose class was told before are asked too.
    """
    ids = [EOS_TOKEN_ID]
    columns, answers = [], []
    heard: set[int] = set()
    for row, told in zip(episode.examples, episode.told, strict=True):
        ids += [*tokens[row], SEPARATOR_TOKEN_ID]
        if ask_repeats and told in heard:
            columns.append(len(ids) - 1)
            answers.append(told)
        heard.add(told)
        ids.append(episode.label_tokens[told])
    ids += [*tokens[episode.query], SEPARATOR_TOKEN_ID]
    if episode.answer in heard or not ask_repeats:
        columns.append(len(ids) - 1)
        answers.append(episode.answer)
    return LaidOut(tuple(ids), tuple(columns), tuple(answers))


def episode_length(episode: Episode, tokens: Sequence[Sequence[int]]) -> int:
    """Length of a laid-out episode: `</s>`, a separator and a label for each example, a separator for the query."""
    told = sum(len(tokens[row]) + 2 for row in episode.examples)
    return 1 + told + len(tokens[episode.query]) + 1


def check_lengths(episodes: Sequence[Episode], tokens: Sequence[Sequence[int]], max_tokens: int) -> None:
    """Refuse episodes that a base cannot read.

    Args:
        episodes (`Sequence[Episode]`): what is told and asked.
        tokens (`Sequence[Sequence[int]]`): token ids of the units of every row.
        max_tokens (`int`): longest sequence that the base reads.

    Raises:
        ConfigurationError: a sequence is longer than that.
    """
    longest = max(episode_length(each, tokens) for each in episodes)
    if longest > max_tokens:
        raise ConfigurationError(
            f"an episode has {longest} tokens, the base reads {max_tokens}",
            hint="fewer ways or shots, or shorter utterances (max_units)",
        )


@dataclass(frozen=True)
class EpisodeBatch:
    """Laid-out episodes of equal ways, padded on the right.

    Attributes:
        input_ids (`LongTensor` of shape `(B, T)`): sequences.
        attention_mask (`LongTensor` of shape `(B, T)`): 1 for what is real.
        rows, columns (`LongTensor` of shape `(Q,)`): where labels are asked, over all rows.
        label_tokens (`LongTensor` of shape `(Q, N)`): the tokens in play there.
        answers (`LongTensor` of shape `(Q,)`): which of them is right.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    columns: Tensor
    label_tokens: Tensor
    answers: Tensor


def batch_episodes(
    episodes: Sequence[Episode],
    tokens: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    ask_repeats: bool = False,
) -> EpisodeBatch:
    """Lay episodes out and pad them.

    Args:
        episodes (`Sequence[Episode]` of length B): of equal ways.
        tokens (`Sequence[Sequence[int]]`): token ids of the units of every row.
        max_tokens (`int`): longest sequence that the base reads.
        ask_repeats (`bool`, defaults to `False`): see `lay_out`.

    Raises:
        ConfigurationError: a sequence is longer than that.
    """
    laid_out = [lay_out(episode, tokens, ask_repeats=ask_repeats) for episode in episodes]
    check_lengths(episodes, tokens, max_tokens)
    longest = max(len(each.token_ids) for each in laid_out)
    ids = torch.full((len(laid_out), longest), PAD_TOKEN_ID)
    mask = torch.zeros(len(laid_out), longest, dtype=torch.long)
    for row, each in enumerate(laid_out):
        ids[row, : len(each.token_ids)] = torch.tensor(each.token_ids)
        mask[row, : len(each.token_ids)] = 1
    rows = [row for row, each in enumerate(laid_out) for _ in each.columns]
    return EpisodeBatch(
        input_ids=ids,
        attention_mask=mask,
        rows=torch.tensor(rows),
        columns=torch.tensor([column for each in laid_out for column in each.columns]),
        label_tokens=torch.tensor([episodes[row].label_tokens for row in rows]),
        answers=torch.tensor([answer for each in laid_out for answer in each.answers]),
    )
