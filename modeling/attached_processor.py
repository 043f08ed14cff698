"""What turns recordings into a model's units, and which token each unit is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from ..core.errors import AdapterError, ConfigurationError, FingerprintMismatchError
from ..core.vocabulary import UnitVocabulary
from .adapter_reading import load_processor, load_vocabulary, mismatches
from .base_loading import base_vocabulary
from .configuration_speechprompt import SpeechPromptConfig
from .publishing import PublishedModel

if TYPE_CHECKING:
    from .unit_language_model import UnitLanguageModel

__all__ = ["ModelWithProcessor"]


class ModelWithProcessor(PublishedModel):
    """A prompted language model that a processor can be attached to; one that was saved is read when it is needed.

    Args:
        config (`SpeechPromptConfig`): the model's.
    """

    if TYPE_CHECKING:
        lm: UnitLanguageModel

    def __init__(self, config: SpeechPromptConfig) -> None:
        super().__init__(config)
        self._processor: Any = None
        self._vocabulary: UnitVocabulary | None = None
        self._source: tuple[str, dict[str, Any]] | None = None
        self._ignore_mismatched_fingerprints = False

    def attach_processor(self, processor: Any) -> Self:
        """Let the model take audio: the processor turns it into units inside `forward`, on the model's device.

        Args:
            processor (`SpeechUnitProcessor`): with `units_from_values` and `prepare_units`.

        Raises:
            FingerprintMismatchError: it makes other units than those that the model was trained on.
        """
        recorded, given = self.config.unit_fingerprint, getattr(processor, "fingerprint", None)
        with mismatches(self._ignore_mismatched_fingerprints):
            if recorded and given and recorded.get("digest") != given.get("digest"):
                raise FingerprintMismatchError(
                    f"the processor makes units {str(given.get('digest'))[:16]}, the model was trained on "
                    f"{str(recorded.get('digest'))[:16]}",
                    hint="use the processor that was saved with the model, or make the units again",
                )
        self._processor = processor
        return self

    @property
    def processor(self) -> Any:
        """The attached processor, or the one saved beside the model; `None` where there is neither."""
        if self._processor is None and self._source is not None:
            processor = load_processor(*self._source)
            if processor is not None:
                self.attach_processor(processor)
        return self._processor

    def unit_inputs(
        self, input_ids: Tensor | None, attention_mask: Tensor | None, input_values: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Token ids and mask of utterances of units, or of audio, which is turned into units here.

        Args:
            input_ids (`LongTensor` of shape `(B, N)`, *optional*): `</s>`, units, `<s>`; padding on either side.
            attention_mask (`Tensor` of shape `(B, N)`, or `(B, S)` with `input_values`, *optional*): 1 for what is
                real.
            input_values (`Tensor` of shape `(B, S)`, *optional*): samples from the processor's feature extractor.

        Returns:
            `tuple[LongTensor, Tensor]` of shape `(B, N)`: token ids, 1 for what is real.

        Raises:
            AdapterError: audio came and no processor is attached.
            ConfigurationError: both or neither of `input_ids` and `input_values`.
        """
        if (input_ids is None) == (input_values is None):
            raise ConfigurationError("give exactly one of input_ids and input_values")
        if input_ids is None:
            return self._units_of(input_values, attention_mask)
        return input_ids, torch.ones_like(input_ids) if attention_mask is None else attention_mask

    def _units_of(self, input_values: Tensor | None, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        processor = self.processor
        if processor is None:
            raise AdapterError(
                "audio was given, and no processor is attached that turns it into units",
                hint="model.attach_processor(AutoProcessor.from_pretrained(…)), or pass input_ids",
            )
        device = self.lm.device
        processor.to(device)
        sequences = processor.units_from_values(input_values, attention_mask)
        batch = processor.prepare_units([sequence.units for sequence in sequences], return_tensors="pt")
        return batch["input_ids"].to(device), batch["attention_mask"].to(device)

    @property
    def vocabulary(self) -> UnitVocabulary:
        """Which token each unit is: the processor's, else what the model was made or saved with, else its base's.

        Units are in numeric order where nothing says another one.

        Raises:
            AdapterError: `dict.txt` beside the model has another number of units than the base.
        """
        tokenizer = getattr(self._processor, "tokenizer", None)
        if tokenizer is not None:
            vocabulary: UnitVocabulary = tokenizer.vocabulary
            return vocabulary
        if self._vocabulary is None and self._source is not None:
            name, hub = self._source
            self._vocabulary = load_vocabulary(name, self.lm.num_units, hub)
        if self._vocabulary is None:
            base = self.config.base_model_name_or_path
            known = base_vocabulary(base) if base else None
            self._vocabulary = known or UnitVocabulary.from_num_units(self.lm.num_units)
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: UnitVocabulary | None) -> None:
        self._vocabulary = vocabulary
