"""Several labels an utterance, read one after another: teacher forcing, exact class scores, greedy decoding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .prompt_states import PromptStates
from .unit_language_model import ReadUtterances, UnitLanguageModel
from .utterance_memory import UtteranceMemory
from .verbalizers import VerbalizerHead

__all__ = ["LabelReader", "sequence_scores"]


class LabelReader:
    """Reads k labels after the separator, each seeing the labels before it.

    Args:
        lm (`UnitLanguageModel`): the language model.
        verbalizer (`VerbalizerHead`): scores and fed-back vectors.
        prompt (`PromptStates`, *optional*): the prompt.
    """

    def __init__(self, lm: UnitLanguageModel, verbalizer: VerbalizerHead, prompt: PromptStates | None) -> None:
        self.lm = lm
        self.verbalizer = verbalizer
        self.prompt = prompt
        self.rows = verbalizer.rows
        self.feedback = verbalizer.feedback(lm.get_input_embeddings()).to(lm.dtype)

    def teacher_forced_loss(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Negative log-probability of label sequences, the mean over rows; equals `-class_scores` there.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for real columns.
            labels (`LongTensor` of shape `(B,)`): class indices.
        """
        rows = self.rows.row_of_class.to(labels.device)[labels]
        hidden_states = self.lm.read_labelled(input_ids, attention_mask, self.feedback[rows[:, :-1]], self.prompt)
        logits = self.lm.lm_head(hidden_states)
        losses = [
            nn.functional.cross_entropy(
                self.verbalizer.scores_at(logits[:, position], position),
                rows[:, position] - self.rows.slices[position].start,
            )
            for position in range(self.rows.num_positions)
        ]
        return torch.stack(losses).sum()

    def class_scores(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Exact log-probabilities of all label sequences: the sum over positions of each position's log-softmax.

        The utterance is read once; then all prefixes of label sequences are read in one further pass, in which a
        prefix sees the utterance and its own labels.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for real columns.

        Returns:
            `Tensor` of shape `(B, M)`, float32.
        """
        utterances, first = self._read_utterances(input_ids, attention_mask)
        device, batch_size = input_ids.device, len(input_ids)
        logits = None
        if self.rows.num_positions > 1:
            assert utterances.memory is not None
            tree = self.rows.tree
            hidden_states = self.lm.read_labels(
                utterances.memory,
                self.feedback[torch.tensor(tree.rows, device=device)].expand(batch_size, -1, -1),
                torch.tensor(tree.depths, device=device).expand(batch_size, -1),
                tree.visible.to(device).expand(batch_size, -1, -1),
                self.prompt,
            )
            logits = self.lm.lm_head(hidden_states)
        return sequence_scores(self.verbalizer, first, logits)

    def greedy(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Class indices found label by label: the best label among those that continue a known sequence.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for real columns.

        Returns:
            `LongTensor` of shape `(B,)`.
        """
        utterances, scores = self._read_utterances(input_ids, attention_mask)
        row_of_class = self.rows.row_of_class.to(input_ids.device)
        possible = torch.ones(len(input_ids), len(row_of_class), dtype=torch.bool, device=input_ids.device)
        said = None
        for position in range(self.rows.num_positions):
            if said is not None:
                assert utterances.memory is not None
                scores = self.verbalizer.scores_at(self._read_label(utterances.memory, said, position), position)
            class_scores = scores[:, row_of_class[:, position] - self.rows.slices[position].start]
            best = class_scores.masked_fill(~possible, -torch.inf).argmax(1)
            said = row_of_class[best, position]
            possible = possible & (row_of_class[:, position] == said.unsqueeze(1))
        return possible.long().argmax(1)

    def _read_utterances(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[ReadUtterances, Tensor]:
        """The utterances, and the scores `(B, R_0)` of the first label."""
        utterances = self.lm.read_utterances(
            input_ids, attention_mask, self.prompt, at_separator=True, keep_memory=self.rows.num_positions > 1
        )
        logits = self.lm.lm_head(utterances.hidden_states)[:, 0]
        return utterances, self.verbalizer.scores_at(logits, 0)

    def _read_label(self, memory: UtteranceMemory, rows: Tensor, position: int) -> Tensor:
        """Logits `(B, V)` after the labels of `rows` `(B,)` were said at label position `position - 1`."""
        batch_size, device = len(rows), rows.device
        hidden_states = self.lm.read_labels(
            memory,
            self.feedback[rows].unsqueeze(1),
            torch.full((batch_size, 1), position, device=device),
            torch.ones(batch_size, 1, position, dtype=torch.bool, device=device),
            self.prompt,
        )
        return self.lm.lm_head(hidden_states)[:, 0]


def sequence_scores(verbalizer: VerbalizerHead, first: Tensor, node_logits: Tensor | None) -> Tensor:
    """Log-probabilities of label sequences: the sum over positions of each position's log-softmax.

    Args:
        verbalizer (`VerbalizerHead`): scores of labels.
        first (`Tensor` of shape `(B, R_0)`): scores of the first label.
        node_logits (`Tensor` of shape `(B, T, V)`, *optional*): logits after the nodes of the verbalizer's prefix
            tree; not needed for one label.

    Returns:
        `Tensor` of shape `(B, M)`, float32.
    """
    rows = verbalizer.rows
    row_of_class = rows.row_of_class.to(first.device)
    total = first.log_softmax(-1)[:, row_of_class[:, 0]]
    if rows.num_positions == 1 or node_logits is None:
        return total
    node_of_class = rows.tree.node_of_class.to(first.device)
    depths = torch.tensor(rows.tree.depths, device=first.device)
    for position in range(1, rows.num_positions):
        nodes = (depths == position).nonzero()[:, 0]  # neighbours: nodes are in the order of their depth
        scores = verbalizer.scores_at(node_logits[:, nodes], position).log_softmax(-1)
        place = node_of_class[:, position - 1] - nodes[0]
        total = total + scores[:, place, row_of_class[:, position] - rows.slices[position].start]
    return total
