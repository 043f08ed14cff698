"""What reads episodes: a base with a prompt, or a base that is trained itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import ConfigurationError
from ...core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS
from ...modeling.base_loading import load_base
from ...modeling.configuration_speechprompt import SpeechPromptConfig
from ...modeling.embeddings import belongs_to_adapters
from ...modeling.prompt_base import PromptModule
from ...modeling.prompt_deep import DeepPrompt
from ...modeling.prompt_input import InputPrompt
from ...modeling.unit_language_model import UnitLanguageModel
from ..bases import Base
from .declaration import InContextMethod, WarmUpSettings
from .episodes import Episode
from .sequences import EpisodeBatch, batch_episodes, episode_length

__all__ = ["Learner", "label_token_ids", "make_learner", "surprise_when_repeated"]


def label_token_ids(base: Base, kind: str, lm: UnitLanguageModel | None = None) -> tuple[int, ...]:
    """The token ids that labels are drawn from.

    Args:
        base (`Base`): whose vocabulary they are of.
        kind (`str`): `"units"`, or `"spare"`: rows that are neither units nor special tokens.
        lm (`UnitLanguageModel`, *optional*): its language model, for `"spare"`.

    Raises:
        ConfigurationError: the vocabulary has no spare rows.
    """
    first_spare = len(SPECIAL_TOKENS) + base.vocabulary.num_units
    if kind == "units":
        return tuple(range(len(SPECIAL_TOKENS), first_spare))
    size = first_spare if lm is None else int(lm.config.vocab_size)
    if size <= first_spare:
        raise ConfigurationError(
            f"the vocabulary of the base {base.name} has {size} tokens, none of them spare", hint="label_tokens: units"
        )
    return tuple(range(first_spare, size))


@dataclass
class Learner:
    """A language model that is asked for labels.

    Attributes:
        lm (`UnitLanguageModel`): the base.
        prompt (`PromptModule | None`): a prompt on it; `None` where the base itself is trained.
    """

    lm: UnitLanguageModel
    prompt: PromptModule | None

    def to(self, device: torch.device) -> None:
        """Move base and prompt."""
        torch.nn.Module.to(self.lm, device)
        if self.prompt is not None:
            self.prompt.to(device)

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """What warm-up trains."""
        if self.prompt is not None:
            return list(self.prompt.parameters())
        return [tensor for name, tensor in self.lm.named_parameters() if not belongs_to_adapters(name)]

    def scores(self, batch: EpisodeBatch, *, last_only: bool) -> Tensor:
        """Logits of the label tokens in play wherever a label is asked.

        Args:
            batch (`EpisodeBatch`): with Q questions.
            last_only (`bool`): every row is asked after its last token alone, which is cheaper.

        Returns:
            `Tensor` of shape `(Q, N)`, float32.
        """
        device = self.lm.device
        read = self.lm.read_utterances(
            batch.input_ids.to(device),
            batch.attention_mask.to(device),
            None if self.prompt is None else self.prompt.states(self.lm),
            at_separator=last_only,
        )
        states = read.hidden_states
        asked = states[batch.rows, 0] if last_only else states[batch.rows, batch.columns]
        return self.lm.lm_head(asked).float().gather(1, batch.label_tokens.to(device))

    @torch.no_grad()
    def answer(
        self, episodes: Sequence[Episode], tokens: Sequence[Sequence[int]], batch_size: int = 32
    ) -> tuple[int, ...]:
        """The class whose label token scores highest after each query.

        Args:
            episodes (`Sequence[Episode]` of length E): of equal ways.
            tokens (`Sequence[Sequence[int]]`): token ids of the units of every row.
            batch_size (`int`, defaults to 32): sequences of similar lengths that are read together.

        Returns:
            `tuple[int, ...]` of length E: classes, from 0 to N - 1.
        """
        self.lm.eval()
        if self.prompt is not None:
            self.prompt.eval()
        lengths = [episode_length(each, tokens) for each in episodes]
        order = sorted(range(len(episodes)), key=lengths.__getitem__)
        answers = [0] * len(episodes)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = batch_episodes(
                [episodes[index] for index in chosen], tokens, max_tokens=self.lm.max_utterance_tokens
            )
            best = self.scores(batch, last_only=True).argmax(-1).tolist()
            for index, answer in zip(chosen, best, strict=True):
                answers[index] = answer
        return tuple(answers)


@torch.no_grad()
def surprise_when_repeated(lm: UnitLanguageModel, tokens: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Whether a base uses what it has just heard: its surprise at an utterance, and at the same one right after.

    A model that can copy from its context is hardly surprised the second time; one that cannot has nothing that a
    prompt could call upon to compare a question with examples.

    Args:
        lm (`UnitLanguageModel`): a decoder-only base, without a prompt.
        tokens (`Sequence[Sequence[int]]`): token ids of the units of some rows.

    Returns:
        `tuple[float, float]`: mean negative log-probability of a token in nats, the first and the second time.
    """
    lm.eval()
    first, again = [], []
    for row in tokens:
        ids = torch.tensor([[EOS_TOKEN_ID, *row, *row]], device=lm.device)
        read = lm.read_utterances(ids, torch.ones_like(ids), None, at_separator=False)
        logs = lm.lm_head(read.hidden_states[:, :-1]).float().log_softmax(-1)
        surprise = -logs.gather(-1, ids[:, 1:, None])[0, :, 0]
        first.append(surprise[: len(row)])
        again.append(surprise[len(row) :])
    return float(torch.cat(first).mean()), float(torch.cat(again).mean())


def make_learner(base: Base, method: InContextMethod, settings: WarmUpSettings, *, seed: int) -> Learner:
    """A learner before warm-up.

    Args:
        base (`Base`): read anew, since fine-tuning writes into it.
        method (`InContextMethod`): of kind `"prompt"` or `"finetune"`.
        settings (`WarmUpSettings`): kind and length of the prompt.
        seed (`int`): of the prompt's first vectors.

    Raises:
        ConfigurationError: the base is an encoder-decoder model, which hears a label before it is asked for it.
    """
    lm = load_base(base.source)
    if lm.peft_task_type != "CAUSAL_LM":
        raise ConfigurationError(
            f"the base {base.name} is an encoder-decoder model, whose encoder hears all labels at once",
            hint="in-context suites need a decoder-only base",
        )
    if method.kind == "finetune":
        learner = Learner(lm, None)
        for tensor in learner.trained:
            tensor.requires_grad_(True)
        return learner
    config = SpeechPromptConfig(
        prompt_type=settings.prompt,
        num_virtual_tokens=settings.num_virtual_tokens,
        prompt_init=settings.prompt_init,
        prompt_dropout=settings.prompt_dropout,
        vocab_size=lm.config.vocab_size,
        hidden_size=lm.config.hidden_size,
        num_units=lm.num_units,
        seed=seed,
    )
    kind = DeepPrompt if settings.prompt == "deep" else InputPrompt
    return Learner(lm, kind(config, lm, torch.Generator().manual_seed(seed)))
