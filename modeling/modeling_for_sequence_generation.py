"""Sequences of an output vocabulary, said by a prompted unit language model: recognition, slots, translation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedTokenizerFast
from transformers.modeling_outputs import Seq2SeqLMOutput

from ..core.errors import AdapterError, ConfigurationError, LabelError
from ..core.vocabulary import (
    EOS_TOKEN_ID,
    PAD_TOKEN_ID,
    SEPARATOR_TOKEN_ID,
    SPECIAL_TOKENS,
    UNK_TOKEN_ID,
    UnitVocabulary,
)
from .base_loading import known_vocabulary, load_base
from .cache_marks import CACHE_FIELD
from .configuration_speechprompt import SpeechPromptConfig
from .modeling_speechprompt import SpeechPromptPreTrainedModel
from .output_tokenizer import check_output_tokenizer, load_output_tokenizer, save_output_tokenizer
from .prompt_initialization import TrainingRows, check_rows
from .prompt_states import PromptStates
from .saved_generation import load_generation_values, save_generation_values
from .sequence_cache import EncodedUtterances, SequenceCache
from .sequence_generation import SequenceGeneration
from .sequence_verbalizer import NUM_NEVER_SAID, SequenceVerbalizer
from .unit_dropout import drop_units
from .unit_language_model import UnitLanguageModel
from .verbalizer_maps import frequency_map

__all__ = ["SpeechPromptForSequenceGeneration"]

_MAX_OUTPUT_TOKENS = 256


# transformers sees that a model generates by the name GenerationMixin among its bases.
class SpeechPromptForSequenceGeneration(SequenceGeneration, SpeechPromptPreTrainedModel, GenerationMixin):
    """Says sequences of an output vocabulary after utterances of units or, with a processor attached, of audio.

    The language model reads the utterance and its separator; then token after token is said through the verbalizer
    and read again as the vector that it is fed back as. Its output vocabulary is its own: characters, subwords,
    phones, slots. To transformers' `generate` it is an encoder-decoder model, on every base: what is read is the
    encoder's input, what is said the decoder's. `generate` does greedy and beam search, sampling, constraints and
    streaming, with batches of any lengths.

    Example:
        ```python
        model = SpeechPromptForSequenceGeneration.from_base(base, tokenizer)
        model.generate(input_ids=torch.tensor([[2, 9, 10, 0]]), num_beams=4)
        ```
    """

    says_sequences = True
    purpose = "sequences"
    verbalizer: SequenceVerbalizer

    def __init__(
        self,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        unit_tokens: Tensor | None = None,
        rows: TrainingRows | None = None,
    ) -> None:
        if not config.generates_sequences:
            raise ConfigurationError(
                "the configuration has no output_vocab_size: it is a classifier's",
                hint="open it with SpeechPromptForAudioClassification",
            )
        super().__init__(config, lm, unit_tokens, rows)
        self._output_tokenizer: PreTrainedTokenizerFast | None = None
        self.verbalizer.begin_as_units(lm.get_input_embeddings())
        self.generation_config = GenerationConfig(
            bos_token_id=SEPARATOR_TOKEN_ID,
            decoder_start_token_id=SEPARATOR_TOKEN_ID,
            pad_token_id=PAD_TOKEN_ID,
            eos_token_id=EOS_TOKEN_ID,
        )

    @classmethod
    def from_base(
        cls,
        base: str | os.PathLike[str] | UnitLanguageModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        prompt: Literal["deep", "input"] = "deep",
        num_virtual_tokens: int = 180,
        verbalizer: Literal["learnable", "frequency", "random"] = "learnable",
        label_feedback: Literal["token", "mixture", "learned"] | None = None,
        method: Literal["prompt", "finetune"] = "prompt",
        max_output_tokens: int | None = None,
        training_units: Iterable[Sequence[int]] | None = None,
        training_outputs: Iterable[Sequence[int]] | None = None,
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
            tokenizer (`PreTrainedTokenizerFast`): of the output vocabulary, as `processors.build_output_tokenizer`
                makes it; `<s>`, `<pad>`, `</s>` and `<unk>` are its first tokens.
            prompt (`str`, defaults to `"deep"`): `"deep"` or `"input"`.
            num_virtual_tokens (`int`, defaults to 180): prompt columns P; sequences need many.
            verbalizer (`str`, defaults to `"learnable"`): `"learnable"`, `"frequency"` or `"random"`.
            label_feedback (`str`, *optional*): what is read of a said token: `"token"`, `"mixture"` or `"learned"`; by
                default `"learned"` with a learnable verbalizer, else `"token"`.
            method (`str`, defaults to `"prompt"`): `"prompt"` or `"finetune"`.
            max_output_tokens (`int`, *optional*): the most tokens that `generate` says by default; 256, or the
                decoder's positions if these are fewer.
            training_units (`Iterable[Sequence[int]]`, *optional*): units of the training rows, for the verbalizer
                `"frequency"` and for `prompt_init` `"frequent_units"`.
            training_outputs (`Iterable[Sequence[int]]`, *optional*): output tokens of the training rows, for
                `"frequency"`.
            vocabulary (`UnitVocabulary`, *optional*): which token each unit is; by default the processor's, else the
                base's, else numeric order.
            processor (`SpeechUnitProcessor`, *optional*): attached to the model.
            base_revision (`str`, *optional*): the base's revision on the Hub; written into the adapter.
            dtype (`torch.dtype | str`, *optional*): precision of the base; prompts are float32.
            attn_implementation (`str`, *optional*): `"sdpa"` or `"eager"`, for a base that is loaded here.
            seed (`int`, defaults to 0): of all initialisations.
            options: further fields of `SpeechPromptConfig`.

        Returns:
            `SpeechPromptForSequenceGeneration`: in evaluation mode.

        Raises:
            ConfigurationError: options contradict each other, the tokenizer's first tokens are others, or the decoder
                has fewer positions than `max_output_tokens`.
            LabelError: there are more tokens than units, and each needs one.
            UnitError: a training row has a unit that the base does not know.
            FingerprintMismatchError: the processor makes other units than the base was trained on.
        """
        check_output_tokenizer(tokenizer)
        loading: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        lm = load_base(base, revision=base_revision, dtype=dtype, **loading)
        config = SpeechPromptConfig(
            method=method,
            prompt_type=prompt,
            num_virtual_tokens=num_virtual_tokens,
            verbalizer=verbalizer,
            readout="separator",
            label_feedback=label_feedback or ("learned" if verbalizer == "learnable" else "token"),
            output_vocab_size=len(tokenizer),
            max_output_tokens=_longest_answer(lm, max_output_tokens),
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
            rows = TrainingRows.encode(config, training_units, None, vocabulary)
        check_rows(config, rows)
        unit_tokens = _frequency_tokens(config, rows, training_outputs) if verbalizer == "frequency" else None
        model = cls._build(base, config, lm, unit_tokens, processor, vocabulary, rows)
        model.output_tokenizer = tokenizer
        return model

    @property
    def output_tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of what is said: what the model was made with, or the one saved beside it.

        Raises:
            AdapterError: there is none.
        """
        if self._output_tokenizer is None:
            if self._source is None:
                raise AdapterError(
                    "the model has no output tokenizer", hint="model.output_tokenizer = build_output_tokenizer(texts)"
                )
            name, hub = self._source
            self._output_tokenizer = load_output_tokenizer(name, self.config.output_vocab_size or 0, hub)
        return self._output_tokenizer

    @output_tokenizer.setter
    def output_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        check_output_tokenizer(tokenizer)
        if len(tokenizer) != self.config.output_vocab_size:
            raise ConfigurationError(
                f"the output tokenizer has {len(tokenizer)} tokens, the model {self.config.output_vocab_size}",
                hint="take the tokenizer that the model was made with",
            )
        self._output_tokenizer = tokenizer

    def _read_what_lies_beside(self) -> None:
        self.output_tokenizer = self.output_tokenizer
        if self._source is not None:
            self.generation_config.update(**load_generation_values(*self._source))

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """Write what other adapters have, `output_tokenizer.json`, and `generation_config.json`.

        Of `generation_config` the fields of `PLAIN_SEARCH` are kept where they were set: beams, length penalty,
        sampling, repetitions. The highest length is the configuration's `max_output_tokens`.

        Args:
            save_directory (`str | PathLike`): the folder.
            is_main_process (`bool`, defaults to `True`): other processes write nothing.
            *args: of `SpeechPromptPreTrainedModel.save_pretrained`.
            **kwargs: of `SpeechPromptPreTrainedModel.save_pretrained`.

        Raises:
            AdapterError: the model has no output tokenizer.
            ConfigurationError: a field of `generation_config` has a value with which the adapter would not open.
            HubError: with `push_to_hub`, the base is not on the Hub; the folder is written.
        """
        if is_main_process:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            save_generation_values(self.generation_config, Path(save_directory))
            save_output_tokenizer(self.output_tokenizer, Path(save_directory))
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        input_values: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: EncodedUtterances | None = None,
        past_key_values: SequenceCache | None = None,
        cache: SequenceCache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
    ) -> Seq2SeqLMOutput | tuple[Any, ...]:
        """Scores of what is said next, and the loss where it is known.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`, *optional*): `</s>`, units, `<s>`; padding on either side.
            attention_mask (`Tensor` of shape `(B, N)`, or `(B, S)` with `input_values`, *optional*): 1 for what is
                real.
            labels (`LongTensor` of shape `(B, K)`, *optional*): output tokens to be said, `</s>` last, -100 or
                `<pad>` on the right; they are not shifted.
            input_values (`Tensor` of shape `(B, S)`, *optional*): samples from the processor's feature extractor,
                instead of `input_ids`.
            decoder_input_ids (`LongTensor` of shape `(B, K)`, *optional*): what was said so far, beginning with `<s>`;
                with a cache only what the cache does not have. Made of `labels` without it.
            encoder_outputs (`EncodedUtterances`, *optional*): utterances that were read before.
            past_key_values (`SequenceCache`, *optional*): what was read and said before; extended in place.
            cache (`SequenceCache`, *optional*): another name of `past_key_values`.
            use_cache (`bool`, *optional*): return what was read and said; off by default.
            return_dict (`bool`, *optional*): `False` returns a tuple.

        Returns:
            `Seq2SeqLMOutput`: `logits` of shape `(B, K, output_vocab_size)`, float32, `-inf` for `<s>`, `<pad>` and
            `<unk>`; `loss`, the mean over known tokens, where labels were given.

        Raises:
            AdapterError: audio came and no processor is attached.
            ConfigurationError: inputs are missing or there twice.
            LabelError: on a CPU, a label is outside the output vocabulary.
        """
        said = past_key_values if cache is None else cache
        if labels is None and decoder_input_ids is None:
            raise ConfigurationError("there are no labels and no decoder_input_ids", hint="or call generate")
        if labels is not None:
            self._check_labels(labels)
            decoder_input_ids = _said_before(labels) if decoder_input_ids is None else decoder_input_ids
        if labels is not None and torch.is_grad_enabled():
            # What is read into a cache has no gradients.
            use_cache = False
            if said is not None or encoder_outputs is not None:
                raise ConfigurationError(
                    "labels came with utterances that were read before, without gradients",
                    hint="give input_ids or input_values, or compute the loss under torch.no_grad()",
                )
        assert decoder_input_ids is not None
        if said is None and encoder_outputs is None:
            input_ids, attention_mask = self.unit_inputs(input_ids, attention_mask, input_values)
            if self.training and self.config.unit_dropout:
                pad_token_id = self.lm.config.pad_token_id or 0
                input_ids, attention_mask = drop_units(
                    input_ids, attention_mask, self.config.unit_dropout, pad_token_id
                )
            if use_cache:
                encoder_outputs = self.read(input_ids, attention_mask)
        if said is None and use_cache and encoder_outputs is not None:
            said = SequenceCache(self.lm, encoder_outputs)
            states = self._begin(encoder_outputs, said, decoder_input_ids)
        elif said is not None:
            states = said.say(self._vectors(decoder_input_ids))
        else:
            states = self._read_whole(input_ids, attention_mask, encoder_outputs, decoder_input_ids)
        logits = self.lm.lm_head(states)
        rows = self.verbalizer.row_scores(logits)
        loss = None
        if labels is not None:
            # Padding is not taught, nor a token that the output vocabulary lacks.
            taught = (labels >= NUM_NEVER_SAID) & (labels != UNK_TOKEN_ID)
            targets = torch.where(taught, labels - NUM_NEVER_SAID, -100)
            loss = nn.functional.cross_entropy(rows.flatten(0, 1), targets.flatten(), ignore_index=-100)
        kept: dict[str, Any] = {CACHE_FIELD: said if use_cache else None}
        scores = nn.functional.pad(rows, (NUM_NEVER_SAID, 0), value=-torch.inf)
        result = Seq2SeqLMOutput(loss=loss, logits=scores, **kept)
        return result.to_tuple() if return_dict is False else result

    def _check_labels(self, labels: Tensor) -> None:
        size = self.config.output_vocab_size or 0
        # Looked at on CPUs alone: a GPU would have to be waited for.
        if labels.device.type == "cpu" and labels.numel() and int(labels.max()) >= size:
            raise LabelError(
                f"token {int(labels.max())} is to be said, the output vocabulary has {size} tokens, 0 to {size - 1}",
                hint="labels are made by the model's output tokenizer",
            )

    @torch.no_grad()
    def read(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> EncodedUtterances:
        """Read utterances, to say something after them.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`): `</s>`, units, `<s>`; padding on either side.
            attention_mask (`Tensor` of shape `(B, N)`, *optional*): 1 for what is real.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        prompt = self._prompt_states()
        utterances = self.lm.read_utterances(input_ids, mask, prompt, at_separator=True, keep_memory=True)
        return EncodedUtterances(
            last_hidden_state=utterances.hidden_states,
            input_ids=input_ids,
            attention_mask=mask,
            rows=torch.arange(len(input_ids), device=input_ids.device),
            memory=utterances.memory,
            prompt=prompt,
        )

    def _prompt_states(self) -> PromptStates | None:
        return None if self.prompt is None else self.prompt.states(self.lm)

    def _vectors(self, tokens: Tensor) -> Tensor:
        """What the language model reads of output tokens `(B, K)`: `(B, K, D)`."""
        feedback = self.verbalizer.feedback(self.lm.get_input_embeddings()).to(self.lm.dtype)
        return feedback[tokens]

    def _begin(self, encoded: EncodedUtterances, said: SequenceCache, tokens: Tensor) -> Tensor:
        """States `(B, K, D)` after the separator and after the further tokens of `(B, K)`."""
        first = encoded.last_hidden_state
        assert first is not None
        if tokens.shape[1] == 1:
            return first
        return torch.cat([first, said.say(self._vectors(tokens[:, 1:]))], dim=1)

    def _read_whole(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        encoded: EncodedUtterances | None,
        tokens: Tensor,
    ) -> Tensor:
        """The same without a cache, in one pass."""
        prompt = self._prompt_states() if encoded is None else encoded.prompt
        if encoded is not None:
            input_ids, attention_mask = encoded.input_ids, encoded.attention_mask
        assert input_ids is not None and attention_mask is not None
        return self.lm.read_labelled(input_ids, attention_mask, self._vectors(tokens[:, 1:]), prompt)


def _said_before(labels: Tensor) -> Tensor:
    """`<s>`, then what should have been said before each token."""
    start = labels.new_full((len(labels), 1), SEPARATOR_TOKEN_ID)
    said = torch.cat([start, labels[:, :-1]], dim=1)
    return said.masked_fill(said < 0, PAD_TOKEN_ID)


def _longest_answer(lm: UnitLanguageModel, wanted: int | None) -> int:
    positions = lm.max_answer_tokens
    if wanted is None:
        return _MAX_OUTPUT_TOKENS if positions is None else min(_MAX_OUTPUT_TOKENS, positions)
    if positions is not None and wanted > positions:
        raise ConfigurationError(
            f"max_output_tokens is {wanted}, and the base says {positions} tokens at most",
            hint="lower it, let the tokenizer make subwords or words, or use a base with more positions",
        )
    return wanted


def _frequency_tokens(
    config: SpeechPromptConfig, rows: TrainingRows | None, outputs: Iterable[Sequence[int]] | None
) -> Tensor:
    if rows is None or outputs is None:
        raise LabelError(
            "the verbalizer 'frequency' maps tokens by how often they and units occur",
            hint="pass training_units and training_outputs",
        )
    said = range(len(SPECIAL_TOKENS), config.output_vocab_size or 0)
    tokens = (int(token) for row in outputs for token in row)
    return frequency_map(tokens, rows.token_rows, list(said), config.unit_vocab_size)
