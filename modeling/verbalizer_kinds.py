"""Which verbalizer a configuration asks for."""

from __future__ import annotations

from .configuration_speechprompt import SpeechPromptConfig
from .sequence_verbalizer import SequenceVerbalizer
from .verbalizers import VerbalizerHead

__all__ = ["verbalizer_class"]


def verbalizer_class(config: SpeechPromptConfig) -> type[VerbalizerHead] | type[SequenceVerbalizer]:
    """The class of the verbalizer: of labels for a classifier, of an output vocabulary for what says sequences."""
    return SequenceVerbalizer if config.generates_sequences else VerbalizerHead
