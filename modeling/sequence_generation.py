"""Sequences through transformers' `generate`: what is read stands for an encoder, what was said for a decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import GenerationMixin

from .sequence_cache import EncodedUtterances, SequenceCache

__all__ = ["SequenceGeneration"]


class SequenceGeneration(GenerationMixin):
    """Mixin of the model that says sequences."""

    if TYPE_CHECKING:
        config: Any
        lm: Any

        def read(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> EncodedUtterances:
            """Read utterances, to say something after them."""

        def unit_inputs(
            self, input_ids: Tensor | None, attention_mask: Tensor | None, input_values: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            """Token ids and mask of utterances of units or of audio."""

    @property
    def max_answer_tokens(self) -> int:
        """The most tokens said by default: the configuration's, or the decoder's positions if these are fewer."""
        longest: int = self.config.max_output_tokens
        positions = self.lm.max_answer_tokens
        return longest if positions is None else min(longest, positions)

    def generate(self, *args: Any, input_values: Tensor | None = None, **kwargs: Any) -> Any:
        """Say sequences, as transformers' `generate`; `input_values` are audio.

        Args:
            args: of `GenerationMixin.generate`.
            input_values (`Tensor` of shape `(B, S)`, *optional*): samples from the processor's feature extractor,
                instead of `input_ids`; `attention_mask` then belongs to them.
            kwargs: of `GenerationMixin.generate`: `input_ids`, `attention_mask`, `num_beams`, `max_new_tokens`, …

        Returns:
            `LongTensor` of shape `(B, 1 + K)`, or what `return_dict_in_generate=True` asks for.
        """
        if input_values is not None:
            input_ids, mask = self.unit_inputs(None, kwargs.pop("attention_mask", None), input_values)
            kwargs |= {"input_ids": input_ids, "attention_mask": mask}
        given = kwargs.get("generation_config") or self.generation_config
        lengths = ("max_length", "max_new_tokens")
        if all(kwargs.get(name) is None and getattr(given, name, None) is None for name in lengths):
            kwargs["max_new_tokens"] = self.max_answer_tokens
        if kwargs.get("encoder_outputs") is not None:
            # Beams repeat its rows in place.
            kwargs["encoder_outputs"] = replace(kwargs["encoder_outputs"])
        return super().generate(*args, **kwargs)

    def get_encoder(self, *args: Any, **kwargs: Any) -> Any:
        """What reads utterances in the place of an encoder."""
        return _Reader(self)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *args: Any,
        encoder_outputs: EncodedUtterances | None = None,
        past_key_values: SequenceCache | None = None,
        cache: SequenceCache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Inputs of one generation step: what was said and is not yet in the cache."""
        said = past_key_values if cache is None else cache
        if said is not None:
            input_ids = input_ids[:, said.get_seq_length() :]
        return {
            "decoder_input_ids": input_ids,
            "encoder_outputs": encoder_outputs,
            "past_key_values": said,
            "use_cache": use_cache,
        }

    def _prepare_cache_for_generation(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Nothing: the first step makes a cache of what was read."""

    @staticmethod
    def _reorder_cache(cache: SequenceCache, beam_idx: Tensor) -> SequenceCache:
        cache.reorder(beam_idx)
        return cache


class _Reader:
    """Reads utterances where transformers' `generate` calls an encoder."""

    main_input_name = "input_ids"

    def __init__(self, model: SequenceGeneration) -> None:
        self._model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> EncodedUtterances:
        return self._model.read(input_ids, attention_mask)

    __call__ = forward
