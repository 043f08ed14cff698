"""Classification of utterances by a prompted unit language model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from ..core.errors import ConfigurationError, LabelError
from ..core.vocabulary import SPECIAL_TOKENS, UnitVocabulary
from .adapter_batch import classify_mixed
from .adapter_set import MultiAdapterModel
from .base_loading import known_vocabulary, load_base
from .configuration_speechprompt import SpeechPromptConfig
from .label_decoding import LabelReader
from .label_rows import LabelRows
from .prompt_initialization import TrainingRows, check_rows
from .prompt_states import PromptStates
from .unit_dropout import drop_units
from .unit_language_model import UnitLanguageModel
from .verbalizer_maps import frequency_map

__all__ = ["SpeechPromptForAudioClassification"]


class SpeechPromptForAudioClassification(MultiAdapterModel):
    """Class scores of utterances, from units or, with a processor attached, from audio.

    A class is one label, or a sequence of k labels (intent: action, object, location) among those of
    `config.label_sequences`; what goes in and comes out is always one class index a row. The output head is applied,
    and the last layer computed, only where the verbalizer reads.

    Example:
        ```python
        model = SpeechPromptForAudioClassification.from_base(base, id2label={0: "no", 1: "yes"})
        model(input_ids=torch.tensor([[2, 9, 10, 0]])).logits
        ```
    """

    @classmethod
    def from_base(
        cls,
        base: str | os.PathLike[str] | UnitLanguageModel,
        id2label: Mapping[int, str] | Sequence[str],
        *,
        prompt: Literal["deep", "input"] = "deep",
        num_virtual_tokens: int = 5,
        verbalizer: Literal["learnable", "frequency", "random"] = "learnable",
        readout: Literal["separator", "pooled", "hidden"] | None = None,
        method: Literal["prompt", "finetune", "probe"] = "prompt",
        label_sequences: Sequence[Sequence[int]] | None = None,
        training_units: Iterable[Sequence[int]] | None = None,
        training_labels: Iterable[int] | None = None,
        vocabulary: UnitVocabulary | None = None,
        processor: Any = None,
        base_revision: str | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """A new model on a base, ready to be trained.

        Args:
            base (`str | PathLike | UnitLanguageModel`): Hub id, folder, name of an embedded base, or the model itself,
                which is then kept, not copied.
            id2label (`Mapping[int, str] | Sequence[str]`): class names.
            prompt (`str`, defaults to `"deep"`): `"deep"` or `"input"`.
            num_virtual_tokens (`int`, defaults to 5): prompt columns P.
            verbalizer (`str`, defaults to `"learnable"`): `"learnable"`, `"frequency"` or `"random"`.
            readout (`str`, *optional*): `"separator"`, `"pooled"` or `"hidden"`; `"hidden"` by default with method
                `"probe"`, else `"separator"`.
            method (`str`, defaults to `"prompt"`): `"prompt"`, `"finetune"` or `"probe"`.
            label_sequences (`Sequence[Sequence[int]]`, *optional*): M rows of k label-token ids.
            training_units (`Iterable[Sequence[int]]`, *optional*): units of the training rows, for the verbalizer
                `"frequency"` and for `prompt_init` `"frequent_units"` and `"class_means"`; not looked at otherwise.
            training_labels (`Iterable[int]`, *optional*): class indices of the training rows, for `"class_means"`,
                which needs them, and `"frequency"`, which takes classes in their order without them.
            vocabulary (`UnitVocabulary`, *optional*): which token each unit is; by default the processor's, else the
                base's, else numeric order.
            processor (`SpeechUnitProcessor`, *optional*): attached to the model.
            base_revision (`str`, *optional*): the base's revision on the Hub; written into the adapter.
            dtype (`torch.dtype | str`, *optional*): precision of the base; prompts are float32.
            attn_implementation (`str`, *optional*): `"sdpa"` or `"eager"`, for a base that is loaded here.
            seed (`int`, defaults to 0): of all initialisations.
            options: further fields of `SpeechPromptConfig`.

        Returns:
            `SpeechPromptForAudioClassification`: in evaluation mode.

        Raises:
            ConfigurationError: options contradict each other.
            LabelError: labels do not fit the verbalizer, or `"class_means"` finds no row of a class.
            UnitError: a training row has a unit that the base does not know.
            FingerprintMismatchError: the processor makes other units than the base was trained on.
        """
        loading: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        lm = load_base(base, revision=base_revision, dtype=dtype, **loading)
        labels = dict(id2label) if isinstance(id2label, Mapping) else dict(enumerate(id2label))
        if len(labels) < 2:
            raise LabelError(f"{len(labels)} class(es): {labels}", hint="a classifier needs at least two")
        config = SpeechPromptConfig(
            method=method,
            prompt_type=prompt,
            num_virtual_tokens=num_virtual_tokens,
            verbalizer=verbalizer,
            readout=readout or ("hidden" if method == "probe" else "separator"),
            label_sequences=None if label_sequences is None else [list(sequence) for sequence in label_sequences],
            id2label=labels,
            label2id={label: index for index, label in labels.items()},
            seed=seed,
            vocab_size=lm.config.vocab_size,
            hidden_size=lm.config.hidden_size,
            num_units=None if lm.num_units == lm.config.vocab_size - len(SPECIAL_TOKENS) else lm.num_units,
            base_revision=base_revision,
            **options,
        )
        vocabulary = vocabulary or known_vocabulary(processor, lm)
        rows = None
        if training_units is not None and (verbalizer == "frequency" or config.starts_from_rows):
            rows = TrainingRows.encode(config, training_units, training_labels, vocabulary)
        check_rows(config, rows)
        unit_tokens = _frequency_tokens(config, rows) if verbalizer == "frequency" else None
        return cls._build(base, config, lm, unit_tokens, processor, vocabulary, rows)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        input_values: Tensor | None = None,
        return_dict: bool | None = None,
        adapter_names: Sequence[str] | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Class scores, and the loss where labels are given.

        With `adapter_names` every row has the adapter it names, and all pass the language model together, once; rows
        of several labels read after the separator pass it together once more. Each row scores as with its adapter
        alone. Only the active adapter has gradients, dropout and units left out.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`, *optional*): `</s>`, units, `<s>`; padding on either side.
            attention_mask (`Tensor` of shape `(B, N)`, or `(B, S)` with `input_values`, *optional*): 1 for what is
                real.
            labels (`LongTensor` of shape `(B,)`, *optional*): class indices.
            input_values (`Tensor` of shape `(B, S)`, *optional*): samples from the processor's feature extractor,
                instead of `input_ids`.
            return_dict (`bool`, *optional*): `False` returns a tuple.
            adapter_names (`Sequence[str]` of length B, *optional*): the adapter of each row, from
                `self.adapter_names`; the active one by default. `labels` are then class indices of each row's own
                adapter.

        Returns:
            `SequenceClassifierOutput`: `logits` of shape `(B, M)`, float32: scores for one label an utterance, exact
            log-probabilities of the label sequences for several. In training with several labels read after the
            separator `logits` is `None`: only the labels' own places are computed. `loss` is a mean over rows.
            With `adapter_names` a `MixedClassifierOutput`: `logits` are always there, padded with `-inf` to the
            adapter with the most classes, and `class_names` are each row's.

        Raises:
            AdapterError: audio came and no processor is attached, or an adapter is not known.
            ConfigurationError: both or neither of `input_ids` and `input_values`, or not one adapter name a row.
        """
        input_ids, attention_mask = self.unit_inputs(input_ids, attention_mask, input_values)
        mixed = None if adapter_names is None else self._adapter_rows(adapter_names, len(input_ids), input_ids.device)
        if self.training and self.config.unit_dropout:
            share: float | Tensor = self.config.unit_dropout
            if adapter_names is not None:
                is_active = [[name == self.active_adapter] for name in adapter_names]
                share = share * torch.tensor(is_active, device=input_ids.device)
            pad_token_id = self.lm.config.pad_token_id or 0
            input_ids, attention_mask = drop_units(input_ids, attention_mask, share, pad_token_id)
        if mixed is not None:
            output = classify_mixed(self.lm, mixed, input_ids, attention_mask, labels)
            return output.to_tuple() if return_dict is False else output
        states = None if self.prompt is None else self.prompt.states(self.lm)
        loss = logits = None
        if self.config.readout == "separator" and self.config.num_label_positions > 1:
            reader = LabelReader(self.lm, self.verbalizer, states)
            if labels is not None and self.training:
                loss = reader.teacher_forced_loss(input_ids, attention_mask, labels)
            else:
                logits = reader.class_scores(input_ids, attention_mask)
        else:
            logits = self.verbalizer.class_scores(self._row_scores(input_ids, attention_mask, states))
        if labels is not None and logits is not None:
            # Scores of several labels are log-probabilities already, over more than the known sequences.
            is_sequence = self.config.num_label_positions > 1
            loss = (nn.functional.nll_loss if is_sequence else nn.functional.cross_entropy)(logits, labels)
        result = SequenceClassifierOutput(loss=loss, logits=logits)
        return result.to_tuple() if return_dict is False else result

    @torch.no_grad()
    def decode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, mode: Literal["exact", "greedy"] = "exact"
    ) -> Tensor:
        """Class indices of utterances.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): `</s>`, units, `<s>`.
            attention_mask (`Tensor` of shape `(B, N)`, *optional*): 1 for what is real.
            mode (`str`, defaults to `"exact"`): `"exact"`: the class of highest probability; `"greedy"`: label by
                label, each the best that continues a known sequence, as the paper decodes; equal for one label.

        Returns:
            `LongTensor` of shape `(B,)`.

        Raises:
            ConfigurationError: an unknown mode.
        """
        if mode not in ("exact", "greedy"):
            raise ConfigurationError(f"mode is {mode!r}", hint="'exact' or 'greedy'")
        if mode == "exact" or self.config.num_label_positions == 1 or self.config.readout != "separator":
            return self(input_ids=input_ids, attention_mask=attention_mask).logits.argmax(-1)
        states = None if self.prompt is None else self.prompt.states(self.lm)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return LabelReader(self.lm, self.verbalizer, states).greedy(input_ids, mask)

    def _row_scores(self, input_ids: Tensor, attention_mask: Tensor, states: PromptStates | None) -> Tensor:
        """Scores `(B, R)` of all verbalizer rows, read in one place of the utterance."""
        at_separator = self.config.readout == "separator"
        hidden_states = self.lm.read_utterances(
            input_ids, attention_mask, states, at_separator=at_separator
        ).hidden_states
        if at_separator:
            return self.verbalizer.scores_at(self.lm.lm_head(hidden_states)[:, 0], 0)
        if self.config.readout == "pooled":
            return self.verbalizer.scores_of_utterance(self.lm.lm_head(hidden_states), attention_mask)
        return self.verbalizer.scores_of_states(hidden_states, attention_mask)


def _frequency_tokens(config: SpeechPromptConfig, rows: TrainingRows | None) -> Tensor:
    """Unit tokens of the distinct label tokens by frequency rank."""
    if rows is None:
        raise ConfigurationError(
            "verbalizer 'frequency' needs the units of the training rows", hint="pass training_units"
        )
    sequences = config.label_sequences or [[index] for index in range(config.num_classes)]
    labels = [token for index in rows.classes or () for token in sequences[index]]
    label_tokens = LabelRows(config.num_classes, config.label_sequences).label_tokens
    return frequency_map(labels, rows.token_rows, label_tokens, config.unit_vocab_size)
