"""Several labels an utterance, read one after another: teacher forcing, exact class scores, greedy decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from .cache_marks import CACHE_FIELD
from .modeling_gslm import GSLMForCausalLM
from .prompt_states import PromptStates
from .verbalizers import VerbalizerHead

__all__ = ["LabelReader", "last_real_column", "read_nodes", "sequence_scores"]


def last_real_column(attention_mask: Tensor) -> Tensor:
    """The column of each row's last real token, `LongTensor` of shape `(B,)`; padding may be on either side."""
    real = attention_mask.ne(0).long()
    return real.shape[1] - 1 - real.flip(1).argmax(1)


@dataclass(frozen=True)
class _Utterances:
    """A batch of utterances in the cache: what label tokens need to go on from it."""

    cache: Cache
    visible: Tensor  # (B, N), bool: real columns
    lengths: Tensor  # (B,): real tokens, hence the position of the first label
    scores: Tensor  # (B, R_0): scores of the first label


class LabelReader:
    """Reads k labels after the separator, each seeing the labels before it.

    Args:
        lm (`GSLMForCausalLM`): the language model.
        verbalizer (`VerbalizerHead`): scores and fed-back vectors.
        prompt (`PromptStates`, *optional*): the prompt.
    """

    def __init__(self, lm: GSLMForCausalLM, verbalizer: VerbalizerHead, prompt: PromptStates | None) -> None:
        self.lm = lm
        self.verbalizer = verbalizer
        self.prompt = prompt
        self.rows = verbalizer.rows
        self.feedback = verbalizer.feedback(lm.get_input_embeddings()).to(lm.dtype)

    def _embed(self, input_ids: Tensor) -> Tensor:
        separator = False if self.prompt is None or self.prompt.separator is None else self.prompt.separator
        return self.lm.model.embed_tokens(input_ids, separator=separator)

    def teacher_forced_loss(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Negative log-probability of label sequences, the mean over rows; equals `-class_scores` there.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for real columns.
            labels (`LongTensor` of shape `(B,)`): class indices.
        """
        num_labels = self.rows.num_positions
        rows = self.rows.row_of_class.to(labels.device)[labels]
        last = last_real_column(attention_mask)
        columns = last.unsqueeze(1) + torch.arange(num_labels, device=last.device)
        vectors = nn.functional.pad(self._embed(input_ids), (0, 0, 0, num_labels - 1))
        index = columns[:, 1:, None].expand(-1, -1, vectors.shape[-1])
        vectors = vectors.scatter(1, index, self.feedback[rows[:, :-1]].to(vectors.dtype))
        mask = nn.functional.pad(attention_mask.ne(0).long(), (0, num_labels - 1)).scatter(1, columns[:, 1:], 1)
        hidden_states = self.lm.model(
            inputs_embeds=vectors,
            attention_mask=mask,
            prompt=self.prompt,
            positions_to_keep=columns,
            use_cache=False,
        ).last_hidden_state
        logits = self.lm.lm_head(hidden_states)
        losses = [
            nn.functional.cross_entropy(
                self.verbalizer.scores_at(logits[:, position], position),
                rows[:, position] - self.rows.slices[position].start,
            )
            for position in range(num_labels)
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
        utterances = self._read_utterances(input_ids, attention_mask)
        device, batch_size = input_ids.device, len(input_ids)
        logits = None
        if self.rows.num_positions > 1:
            tree = self.rows.tree
            logits = read_nodes(
                self.lm,
                utterances.cache,
                utterances.visible,
                self.feedback[torch.tensor(tree.rows, device=device)].expand(batch_size, -1, -1),
                torch.tensor(tree.depths, device=device).expand(batch_size, -1),
                tree.visible.to(device).expand(batch_size, -1, -1),
                self.prompt,
            )
        return sequence_scores(self.verbalizer, utterances.scores, logits)

    def greedy(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Class indices found label by label: the best label among those that continue a known sequence.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): utterances with their separator.
            attention_mask (`Tensor` of shape `(B, N)`): 1 for real columns.

        Returns:
            `LongTensor` of shape `(B,)`.
        """
        utterances = self._read_utterances(input_ids, attention_mask)
        row_of_class = self.rows.row_of_class.to(input_ids.device)
        possible = torch.ones(len(input_ids), len(row_of_class), dtype=torch.bool, device=input_ids.device)
        scores, said = utterances.scores, None
        for position in range(self.rows.num_positions):
            if said is not None:
                scores = self.verbalizer.scores_at(self._read_label(utterances, said, position), position)
            class_scores = scores[:, row_of_class[:, position] - self.rows.slices[position].start]
            best = class_scores.masked_fill(~possible, -torch.inf).argmax(1)
            said = row_of_class[best, position]
            possible = possible & (row_of_class[:, position] == said.unsqueeze(1))
        return possible.long().argmax(1)

    def _read_utterances(self, input_ids: Tensor, attention_mask: Tensor) -> _Utterances:
        last = last_real_column(attention_mask)
        needs_cache = self.rows.num_positions > 1
        cache = DynamicCache(config=self.lm.config) if needs_cache else None
        output = self.lm.model(
            inputs_embeds=self._embed(input_ids),
            attention_mask=attention_mask,
            past_key_values=cache,
            prompt=self.prompt,
            positions_to_keep=last.unsqueeze(1),
            use_cache=needs_cache,
        )
        logits = self.lm.lm_head(output.last_hidden_state)[:, 0]
        visible = attention_mask.ne(0)
        return _Utterances(output.get(CACHE_FIELD), visible, visible.sum(1), self.verbalizer.scores_at(logits, 0))

    def _read_label(self, utterances: _Utterances, rows: Tensor, position: int) -> Tensor:
        """Logits `(B, V)` after the labels of `rows` `(B,)` were said at label position `position - 1`."""
        batch_size = len(rows)
        earlier = torch.ones(batch_size, position, dtype=torch.bool, device=rows.device)
        output = self.lm.model(
            inputs_embeds=self.feedback[rows].unsqueeze(1),
            attention_mask=torch.cat([utterances.visible, earlier], dim=1).long(),
            position_ids=(utterances.lengths + position - 1).unsqueeze(1),
            past_key_values=utterances.cache,
            prompt=self.prompt,
            use_cache=True,
        )
        return self.lm.lm_head(output.last_hidden_state)[:, 0]


def read_nodes(
    lm: GSLMForCausalLM,
    cache: Cache,
    visible: Tensor,
    vectors: Tensor,
    depths: Tensor,
    node_mask: Tensor,
    prompt: PromptStates | None,
) -> Tensor:
    """Read prefixes of label sequences, all nodes of a tree at once, a tree a row.

    Args:
        lm (`GSLMForCausalLM`): the language model.
        cache (`Cache`): the utterances of B rows; extended in place.
        visible (`BoolTensor` of shape `(B, N)`): real columns of the utterances.
        vectors (`Tensor` of shape `(B, T, D)`): what is fed in at the nodes: each one's last label.
        depths (`LongTensor` of shape `(B, T)`): labels in each node's prefix, from 1.
        node_mask (`BoolTensor` of shape `(B, T, T)`): which nodes a node sees, itself among them.
        prompt (`PromptStates`, *optional*): the prompt that the utterances were read with.

    Returns:
        `Tensor` of shape `(B, T, V)`: logits after every node.
    """
    num_nodes = depths.shape[1]
    columns = visible[:, None, None, :].expand(-1, 1, num_nodes, -1)
    mask = torch.cat([columns, node_mask.unsqueeze(1)], dim=-1)
    if lm.config._attn_implementation == "eager":
        lowest = torch.finfo(lm.dtype).min
        mask = torch.zeros(mask.shape, dtype=lm.dtype, device=mask.device).masked_fill(~mask, lowest)
    output = lm.model(
        inputs_embeds=vectors,
        attention_mask=mask,
        position_ids=visible.sum(1, keepdim=True) + depths - 1,
        past_key_values=cache,
        prompt=prompt,
        use_cache=True,
    )
    return lm.lm_head(output.last_hidden_state)


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
