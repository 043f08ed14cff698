"""One forward pass for rows of several adapters: scores of each adapter's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from .label_decoding import sequence_scores
from .prompt_bank import gather_prompts
from .prompt_states import PromptStates
from .unit_language_model import UnitLanguageModel, last_real_column
from .utterance_memory import UtteranceMemory
from .verbalizers import VerbalizerHead

__all__ = ["AdapterRows", "MixedClassifierOutput", "adapter_rows_scores", "classify_mixed"]


@dataclass
class MixedClassifierOutput(SequenceClassifierOutput):
    """Scores of a batch whose rows have adapters of their own.

    Attributes:
        loss (`Tensor` of shape `()`, *optional*): the mean over rows.
        logits (`Tensor` of shape `(B, M)`): M of the adapter with the most classes, `-inf` behind a row's own classes.
        class_names (`tuple[tuple[str, ...], ...]` of length B): the names of each row's classes, in their order.
    """

    class_names: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True)
class AdapterRows:
    """An adapter and its rows of a batch.

    Attributes:
        prompt (`PromptStates`, *optional*): the prompt, without a batch dimension.
        verbalizer (`VerbalizerHead`): reads the classes; its configuration says where.
        rows (`LongTensor` of shape `(n,)`): numbers of the rows.
    """

    prompt: PromptStates | None
    verbalizer: VerbalizerHead
    rows: Tensor

    @property
    def reads_sequences(self) -> bool:
        """Whether labels are read one after another, after the separator."""
        return self.verbalizer.config.readout == "separator" and self.verbalizer.rows.num_positions > 1


def classify_mixed(
    lm: UnitLanguageModel,
    groups: Sequence[AdapterRows],
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor | None = None,
) -> MixedClassifierOutput:
    """Scores of a batch in the order of its rows, and the loss where labels are given.

    Args:
        lm (`UnitLanguageModel`): the language model.
        groups (`Sequence[AdapterRows]`): distinct adapters; each row of the batch is in one of them.
        input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
        attention_mask (`Tensor` of shape `(B, N)`): 1 for what is real.
        labels (`LongTensor` of shape `(B,)`, *optional*): class indices of each row's own adapter.
    """
    scores = adapter_rows_scores(lm, groups, input_ids, attention_mask)
    names: dict[int, tuple[str, ...]] = {}
    for group in groups:
        names.update(dict.fromkeys(group.rows.tolist(), tuple(group.verbalizer.config.class_names)))
    return MixedClassifierOutput(
        loss=None if labels is None else _mean_loss(groups, scores, labels),
        logits=_join_scores(groups, scores),
        class_names=tuple(names[row] for row in range(len(input_ids))),
    )


def adapter_rows_scores(
    lm: UnitLanguageModel, groups: Sequence[AdapterRows], input_ids: Tensor, attention_mask: Tensor
) -> list[Tensor]:
    """Class scores of every adapter's rows.

    All rows pass the language model together, once. Rows of several labels that are read one after another pass it a
    second time, again together whatever their adapters are: each with the prefixes of its own label sequences. So a
    batch costs one forward pass over the utterances, and one over the prefixes if a row needs it; never more.

    Args:
        lm (`UnitLanguageModel`): the language model.
        groups (`Sequence[AdapterRows]`): distinct adapters; each row of the batch is in one of them.
        input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
        attention_mask (`Tensor` of shape `(B, N)`): 1 for what is real; padding on either side.

    Returns:
        `list` of `Tensor`s of shape `(n, M)`, float32: one an adapter, what the adapter alone would give.
    """
    group_of_row = torch.empty(len(input_ids), dtype=torch.long, device=input_ids.device)
    for number, group in enumerate(groups):
        group_of_row[group.rows] = number
    prompt = gather_prompts([group.prompt for group in groups], group_of_row, lm)
    needs_cache = any(group.reads_sequences for group in groups)
    at_separator_only = all(group.verbalizer.config.readout == "separator" for group in groups)
    last = last_real_column(attention_mask)
    utterances = lm.read_utterances(
        input_ids, attention_mask, prompt, at_separator=at_separator_only, keep_memory=needs_cache
    )
    scores = [
        _scores_of_rows(
            lm,
            group,
            utterances.hidden_states[group.rows],
            attention_mask[group.rows],
            torch.zeros_like(last)[group.rows] if at_separator_only else last[group.rows],
        )
        for group in groups
    ]
    numbers = [number for number, group in enumerate(groups) if group.reads_sequences]
    if numbers:
        assert utterances.memory is not None
        further = _read_sequences(
            lm,
            [groups[number] for number in numbers],
            [scores[number] for number in numbers],
            utterances.memory,
            prompt,
        )
        for number, values in zip(numbers, further, strict=True):
            scores[number] = values
    return scores


def _scores_of_rows(
    lm: UnitLanguageModel, group: AdapterRows, hidden_states: Tensor, attention_mask: Tensor, last: Tensor
) -> Tensor:
    """Class scores `(n, M)`; for label sequences the scores `(n, R_0)` of their first label."""
    verbalizer, readout = group.verbalizer, group.verbalizer.config.readout
    if readout == "hidden":
        return verbalizer.class_scores(verbalizer.scores_of_states(hidden_states, attention_mask))
    if readout == "pooled":
        return verbalizer.class_scores(verbalizer.scores_of_utterance(lm.lm_head(hidden_states), attention_mask))
    at_separator = hidden_states[torch.arange(len(last), device=last.device), last]
    scores = verbalizer.scores_at(lm.lm_head(at_separator), 0)
    return scores if group.reads_sequences else verbalizer.class_scores(scores)


def _read_sequences(
    lm: UnitLanguageModel,
    groups: Sequence[AdapterRows],
    first: Sequence[Tensor],
    memory: UtteranceMemory,
    prompt: PromptStates | None,
) -> list[Tensor]:
    """Class scores of rows with label sequences: the prefix trees of all their adapters in one pass."""
    device = memory.visible.device
    rows = torch.cat([group.rows for group in groups])
    trees = [group.verbalizer.rows.tree for group in groups]
    num_nodes = max(len(tree.rows) for tree in trees)
    vectors, depths, masks = [], [], []
    for group, tree in zip(groups, trees, strict=True):
        missing, size = num_nodes - len(tree.rows), len(group.rows)
        feedback = group.verbalizer.feedback(lm.get_input_embeddings()).to(lm.dtype)
        fed = feedback[torch.tensor(tree.rows, device=device)]
        vectors.append(nn.functional.pad(fed, (0, 0, 0, missing)).expand(size, -1, -1))
        depths.append(torch.tensor([*tree.depths, *[1] * missing], device=device).expand(size, -1))
        mask = nn.functional.pad(tree.visible.to(device), (0, missing, 0, missing))
        masks.append((mask | torch.eye(num_nodes, dtype=torch.bool, device=device)).expand(size, -1, -1))
    hidden_states = lm.read_labels(
        memory.take_rows(rows, num_rows=len(memory.visible)),
        torch.cat(vectors),
        torch.cat(depths),
        torch.cat(masks),
        None if prompt is None else prompt.take_rows(rows),
    )
    parts = lm.lm_head(hidden_states).split([len(group.rows) for group in groups])
    return [
        sequence_scores(group.verbalizer, scores, part[:, : len(tree.rows)])
        for group, tree, scores, part in zip(groups, trees, first, parts, strict=True)
    ]


def _join_scores(groups: Sequence[AdapterRows], scores: Sequence[Tensor]) -> Tensor:
    """Scores in the order of the batch: `(B, M)` from the adapters' `(n, M_u)`, `-inf` behind their classes."""
    num_classes = max(values.shape[1] for values in scores)
    padded = [nn.functional.pad(values, (0, num_classes - values.shape[1]), value=-torch.inf) for values in scores]
    order = torch.cat([group.rows for group in groups])
    return torch.cat(padded)[order.argsort()]


def _mean_loss(groups: Sequence[AdapterRows], scores: Sequence[Tensor], labels: Tensor) -> Tensor:
    """The mean over rows of the negative log-probability of `labels` (`LongTensor` of shape `(B,)`)."""
    losses = []
    for group, values in zip(groups, scores, strict=True):
        # Scores of several labels are log-probabilities already.
        is_sequence = group.verbalizer.rows.num_positions > 1
        loss = nn.functional.nll_loss if is_sequence else nn.functional.cross_entropy
        losses.append(loss(values, labels[group.rows], reduction="sum"))
    return torch.stack(losses).sum() / len(labels)
