"""Speech after speech: a prompted unit language model says target units, and a vocoder makes them sound."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..core.errors import AdapterError, ConfigurationError
from ..core.vocabulary import UnitVocabulary
from .base_loading import known_vocabulary, load_base
from .configuration_speechprompt import SpeechPromptConfig
from .modeling_for_sequence_generation import SpeechPromptForSequenceGeneration
from .prompt_initialization import TrainingRows
from .target_units import (
    check_target_units,
    check_unit_tokenizer,
    target_units_record,
    tokens_to_units,
    unit_output_tokenizer,
)
from .unit_language_model import UnitLanguageModel
from .unit_speech import UnitSpeech, check_vocoder, speak_units

__all__ = ["SpeechPromptForSpeechGeneration", "frame_rate_of"]


class SpeechPromptForSpeechGeneration(SpeechPromptForSequenceGeneration):
    """Answers utterances of units, or of audio, with units of a target vocabulary and, with a vocoder, with sound.

    It is `SpeechPromptForSequenceGeneration` whose output vocabulary are units: token u + 4 is unit u. The units are
    merged; how long each lasts is the vocoder's to say.

    Example:
        ```python
        model = SpeechPromptForSpeechGeneration.from_base(base, speech_task="continuation")
        model.attach_vocoder(load_vocoder("organisation/vocoder"))
        model.generate_speech(input_ids=torch.tensor([[2, 9, 10, 0]]), do_sample=True).waveform
        ```
    """

    purpose = "speech"

    def __init__(
        self,
        config: SpeechPromptConfig,
        lm: UnitLanguageModel,
        unit_tokens: Tensor | None = None,
        rows: TrainingRows | None = None,
    ) -> None:
        if not config.generates_speech:
            raise ConfigurationError(
                "the configuration has no target_units: its model does not answer with speech",
                hint="open it with AutoModel",
            )
        super().__init__(config, lm, unit_tokens, rows)
        # No module of this model: it is saved and moved on its own.
        self._vocoder: list[Any] = []

    @classmethod
    def from_base(
        cls,
        base: str | os.PathLike[str] | UnitLanguageModel,
        tokenizer: PreTrainedTokenizerFast | None = None,
        *,
        speech_task: Literal["continuation", "correction", "translation"] = "continuation",
        target_units: Mapping[str, Any] | None = None,
        vocoder_name_or_path: str | None = None,
        vocoder_revision: str | None = None,
        vocabulary: UnitVocabulary | None = None,
        processor: Any = None,
        base_revision: str | None = None,
        dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        **options: Any,
    ) -> Self:
        """A new model on a base, ready to be trained.

        Where the units that are said are the base's own, the verbalizer begins as the identity and said units are read
        as the base reads them: before any training the answer is what the base itself goes on with.

        Args:
            base (`str | PathLike | UnitLanguageModel`): as for `SpeechPromptForSequenceGeneration.from_base`.
            tokenizer (`PreTrainedTokenizerFast`, *optional*): of `unit_output_tokenizer`; made by default.
            speech_task (`str`, defaults to `"continuation"`): what the answer is to the recording: `"continuation"`,
                `"correction"` or `"translation"`.
            target_units (`Mapping`, *optional*): from `target_units_record`; the base's own units by default.
            vocoder_name_or_path (`str`, *optional*): the vocoder of these units, named for those who open the model.
            vocoder_revision (`str`, *optional*): its revision on the Hub.
            vocabulary (`UnitVocabulary`, *optional*): which token each unit is.
            processor (`SpeechUnitProcessor`, *optional*): attached to the model.
            base_revision (`str`, *optional*): the base's revision on the Hub.
            dtype (`torch.dtype | str`, *optional*): precision of the base.
            attn_implementation (`str`, *optional*): `"sdpa"` or `"eager"`, for a base that is loaded here.
            options: further arguments of `SpeechPromptForSequenceGeneration.from_base`.

        Returns:
            `SpeechPromptForSpeechGeneration`: in evaluation mode.

        Raises:
            ConfigurationError: the tokenizer's words are not the target units, or what
                `SpeechPromptForSequenceGeneration.from_base` raises.
            LabelError: a fixed verbalizer, which needs a unit of the base for each that is said.
        """
        loading: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        lm = load_base(base, revision=base_revision, dtype=dtype, **loading)
        vocabulary = vocabulary or known_vocabulary(processor, lm) or UnitVocabulary.from_num_units(lm.num_units)
        own = _own_units(lm, vocabulary, processor)
        target = dict(target_units) if target_units is not None else own
        if target is None:
            raise ConfigurationError(
                f"the units of the base are not numbered from 0 to {lm.num_units - 1}",
                hint="say which units are said: target_units=target_units_record(num_units)",
            )
        check_target_units(target)
        tokenizer = tokenizer or unit_output_tokenizer(target["num_units"])
        check_unit_tokenizer(tokenizer, target["num_units"])
        model = super().from_base(
            lm,
            tokenizer,
            vocabulary=vocabulary,
            processor=processor,
            base_revision=base_revision,
            target_units=target,
            speech_task=speech_task,
            vocoder_name_or_path=vocoder_name_or_path,
            vocoder_revision=vocoder_revision,
            **options,
        )
        if own is not None and _are_same(target, own) and model.config.verbalizer == "learnable":
            tokens = torch.tensor(vocabulary.encode(range(target["num_units"])))
            model.verbalizer.begin_as_same_units(tokens, model.lm.get_input_embeddings())
        return model

    @property
    def num_target_units(self) -> int:
        """Units K of the target vocabulary."""
        return int((self.config.target_units or {})["num_units"])

    def _read_what_lies_beside(self) -> None:
        super()._read_what_lies_beside()
        try:
            check_unit_tokenizer(self.output_tokenizer, self.num_target_units)
        except ConfigurationError as error:
            raise AdapterError(
                f"{self.config._name_or_path}: {Exception.__str__(error)}",
                hint="the files come from different runs; save the adapter again",
            ) from error

    # Sound

    def attach_vocoder(self, vocoder: Any) -> Self:
        """Let the model answer with sound; the vocoder stays a model of its own, which is not saved with this one.

        Args:
            vocoder (`PreTrainedModel`): of the target units, from `load_vocoder` or `AutoModel`.

        Raises:
            AdapterError: it is no vocoder.
            ConfigurationError: it says another number of units, or frames of another length.
            FingerprintMismatchError: it says the units of another encoder or k-means.
        """
        target = self.config.target_units or {}
        check_vocoder(
            vocoder,
            self.num_target_units,
            target.get("fingerprint"),
            target.get("frame_rate"),
            f"the target vocabulary of {self.config._name_or_path or 'the model'}",
        )
        self._vocoder = [vocoder]
        return self

    @property
    def vocoder(self) -> Any:
        """The attached vocoder, or `None`: one that is only named is not opened."""
        return self._vocoder[0] if self._vocoder else None

    @torch.no_grad()
    def generate_units(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Units that are said after utterances.

        Args:
            args: of `generate`.
            kwargs: of `generate`: `input_ids` or `input_values`, `attention_mask`; `num_beams` for a search,
                `do_sample`, `temperature`, `top_k` and `top_p` for sampling, `num_return_sequences`, `max_new_tokens`.

        Returns:
            `list[LongTensor]`: merged units of each answer, of shape `(U,)`, perhaps none; of
                `num_return_sequences` answers those of one utterance stand together.
        """
        said = self.generate(*args, **kwargs)
        tokens = said if isinstance(said, Tensor) else said.sequences
        rows = map(tokens_to_units, tokens[:, 1:].tolist())
        return [torch.tensor(row, dtype=torch.long, device=tokens.device) for row in rows]

    def speak(
        self,
        units: Sequence[Any],
        durations: Sequence[Any] | None = None,
        *,
        tempo: float = 1.0,
        speaker_ids: Tensor | None = None,
    ) -> UnitSpeech:
        """Sound of rows of target units, by the attached vocoder; arguments as of `speak_units`.

        Args:
            units (`Sequence` of B rows of integers): merged units.
            durations (`Sequence` of B rows of integers, *optional*): frames of each unit; the vocoder's by default.
            tempo (`float`, defaults to 1.0): 2.0 is twice as fast.
            speaker_ids (`LongTensor` of shape `(B,)`, *optional*): the voice of each row.

        Raises:
            AdapterError: no vocoder is attached.
        """
        if self.vocoder is None:
            named = self.config.vocoder_name_or_path
            raise AdapterError(
                "no vocoder is attached that makes units sound"
                + (f"; the one that belongs to them is {named}" if named else ""),
                hint=f"model.attach_vocoder(load_vocoder({named or 'DIR_OR_ID'!r}))",
            )
        return speak_units(self.vocoder, units, durations, tempo=tempo, speaker_ids=speaker_ids)

    def generate_speech(
        self, *args: Any, tempo: float = 1.0, speaker_ids: Tensor | None = None, **kwargs: Any
    ) -> UnitSpeech:
        """Answer utterances with sound.

        Args:
            args: of `generate_units`.
            tempo (`float`, defaults to 1.0): 2.0 is twice as fast.
            speaker_ids (`LongTensor` of shape `(B,)`, *optional*): the voice of each answer.
            kwargs: of `generate_units`.

        Returns:
            `UnitSpeech`: an answer without units has no samples.

        Raises:
            AdapterError: no vocoder is attached.
        """
        if self.vocoder is None:
            self.speak([])
        return self.speak(self.generate_units(*args, **kwargs), tempo=tempo, speaker_ids=speaker_ids)


def _own_units(lm: UnitLanguageModel, vocabulary: UnitVocabulary, processor: Any) -> dict[str, Any] | None:
    """The base's units as target units; `None` where their numbers have gaps."""
    if sorted(map(int, vocabulary.symbols)) != list(range(lm.num_units)):
        return None
    fingerprint = lm.config.fingerprint or getattr(processor, "fingerprint", None)
    return target_units_record(lm.num_units, fingerprint, frame_rate_of(processor))


def frame_rate_of(processor: Any) -> float | None:
    """Frames a second of a processor's units; `None` without a processor.

    Args:
        processor (`SpeechUnitProcessor`, *optional*): makes the units.
    """
    if processor is None:
        return None
    return float(processor.feature_extractor.sampling_rate) / float(processor.unit_encoder.hop_samples)


def _are_same(target: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether target units are the base's own, as far as anybody knows."""
    digests = [(each.get("fingerprint") or {}).get("digest") for each in (target, own)]
    return target["num_units"] == own["num_units"] and digests[0] == digests[1]
