"""Warm-up: a prompt, or the base, learns on episodes of warm-up classes to use what the context tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .declaration import WarmUpSettings
from .episodes import Pool, draw_episodes
from .learner import Learner
from .sequences import batch_episodes

__all__ = ["warm_up"]

_CLIP_NORM = 1.0
_BETAS = (0.9, 0.98)


def warm_up(
    learner: Learner,
    pools: Sequence[Pool],
    tokens: Sequence[Sequence[int]],
    settings: WarmUpSettings,
    *,
    ways: Sequence[int],
    shots: Sequence[int],
    label_tokens: Sequence[int],
    seed: int,
) -> list[float]:
    """Train on episodes; every update has one data set, one number of classes and of examples, drawn.

    The loss is the cross-entropy among the labels in play, so that chance is the logarithm of their number.

    Args:
        learner (`Learner`): it is changed.
        pools (`Sequence[Pool]`): rows of warm-up, a pool a data set.
        tokens (`Sequence[Sequence[int]]`): token ids of the units of every row.
        settings (`WarmUpSettings`): updates and rates.
        ways (`Sequence[int]`): numbers of classes in play.
        shots (`Sequence[int]`): numbers of examples a class.
        label_tokens (`Sequence[int]`): what labels are drawn from.
        seed (`int`): of episodes and dropout.

    Returns:
        `list[float]`: the loss of every update, as a share of that of chance.

    Raises:
        DatasetError: a pool has too few classes or rows for an episode.
        ConfigurationError: an episode is longer than the base reads.
    """
    if not settings.updates:
        return []
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(learner.trained, lr=settings.learning_rate, betas=_BETAS, weight_decay=0.0)
    rising = max(1, settings.updates // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (settings.updates - step) / settings.updates)
    )
    generator = np.random.default_rng(seed)
    # Dropout inside a frozen base would only blur what the prompt learns.
    learner.lm.train(learner.prompt is None)
    if learner.prompt is not None:
        learner.prompt.train()
    repeats = settings.ask == "repeats"
    losses = []
    for update in range(settings.updates):
        pool = pools[int(generator.integers(len(pools)))]
        num_ways, num_shots = int(generator.choice(ways)), int(generator.choice(shots))
        episodes = draw_episodes(
            pool,
            ways=min(num_ways, len(pool.classes)),
            shots=num_shots,
            number=settings.batch_size,
            label_tokens=label_tokens,
            seed=(seed, update),
            balanced=not repeats,
        )
        batch = batch_episodes(episodes, tokens, max_tokens=learner.lm.max_utterance_tokens, ask_repeats=repeats)
        if not len(batch.rows):  # no class was told twice
            losses.append(1.0)
            continue
        scores = learner.scores(batch, last_only=not repeats)
        loss = nn.functional.cross_entropy(scores, batch.answers.to(scores.device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.trained, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / float(np.log(scores.shape[1])))
    return losses
