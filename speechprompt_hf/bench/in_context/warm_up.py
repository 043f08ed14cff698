"""Warm-up: a prompt, or the base, learns on episodes of warm-up classes to use what the context tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ..declaration import placed
from .declaration import WarmUpSettings
from .episodes import Episode, Pool, draw_episodes
from .learner import Learner
from .sequences import batch_episodes, check_lengths

__all__ = ["warm_up"]

_CLIP_NORM = 1.0
_BETAS = (0.9, 0.98)


def warm_up(
    learner: Learner,
    pools: Mapping[str, Pool],
    tokens: Sequence[Sequence[int]],
    settings: WarmUpSettings,
    *,
    ways: Sequence[int],
    shots: Sequence[int],
    label_tokens: Sequence[int],
    seed: int,
) -> list[float]:
    """Train on episodes; every update has one data set, one number of classes and of examples, drawn.

    The loss is the cross-entropy among the labels in play, so that chance is the logarithm of their number. All
    episodes are drawn before the first update. Each has a question: where no class is told twice, all are told.

    Args:
        learner (`Learner`): it is changed.
        pools (`Mapping[str, Pool]`): data set → its rows of warm-up.
        tokens (`Sequence[Sequence[int]]`): token ids of the units of every row.
        settings (`WarmUpSettings`): updates and rates.
        ways (`Sequence[int]`): numbers of classes in play.
        shots (`Sequence[int]`): numbers of examples a class.
        label_tokens (`Sequence[int]`): what labels are drawn from.
        seed (`int`): of episodes and dropout.

    Returns:
        `list[float]`: the loss of every update, as a share of that of chance.

    Raises:
        DatasetError: a pool has too few classes or rows for an episode; the error names the data set.
        ConfigurationError: an episode is longer than the base reads; likewise.
    """
    if not settings.updates:
        return []
    repeats = settings.ask == "repeats"
    max_tokens = learner.lm.max_utterance_tokens
    drawn = _draw(pools, tokens, settings, max_tokens, ways, shots, label_tokens, seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(learner.trained, lr=settings.learning_rate, betas=_BETAS, weight_decay=0.0)
    rising = max(1, settings.updates // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (settings.updates - step) / settings.updates)
    )
    # Dropout inside a frozen base would only blur what the prompt learns.
    learner.lm.train(learner.prompt is None)
    if learner.prompt is not None:
        learner.prompt.train()
    losses = []
    for episodes in drawn:
        batch = batch_episodes(episodes, tokens, max_tokens=max_tokens, ask_repeats=repeats)
        scores = learner.scores(batch, last_only=not repeats)
        loss = nn.functional.cross_entropy(scores, batch.answers.to(scores.device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.trained, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / float(np.log(scores.shape[1])))
    return losses


def _draw(
    pools: Mapping[str, Pool],
    tokens: Sequence[Sequence[int]],
    settings: WarmUpSettings,
    max_tokens: int,
    ways: Sequence[int],
    shots: Sequence[int],
    label_tokens: Sequence[int],
    seed: int,
) -> list[tuple[Episode, ...]]:
    """The episodes of every update."""
    generator = np.random.default_rng(seed)
    names = list(pools)
    drawn = []
    for update in range(settings.updates):
        name = names[int(generator.integers(len(names)))]
        num_ways, num_shots = int(generator.choice(ways)), int(generator.choice(shots))
        with placed(f"warm_up {name}"):
            episodes = draw_episodes(
                pools[name],
                ways=num_ways,
                shots=num_shots,
                number=settings.batch_size,
                label_tokens=label_tokens,
                seed=(seed, update),
                balanced=settings.ask == "query",
            )
            check_lengths(episodes, tokens, max_tokens)
        drawn.append(episodes)
    return drawn
