"""How speech is generated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..core.errors import ConfigurationError
from ..core.units import check_tempo
from ..modeling.saved_generation import PLAIN_SEARCH

__all__ = ["GenerationSettings"]


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Everything that shapes generated speech but model, vocoder and recording.

    Attributes:
        prompt_seconds (`float`, *optional*): of a recording that is continued: the most that is heard of it, from its
            start; by default as much as the adapter heard in training, or 3 s where it does not say.
        sample (`bool`, *optional*): draw units rather than search for the most probable ones; by default for
            continuation alone.
        temperature (`float`, defaults to 0.8): of sampling.
        top_k (`int`, defaults to 0): sample among so many units; 0: among all.
        top_p (`float`, defaults to 1.0): sample among the most probable units of this share.
        num_samples (`int`, defaults to 1): continuations of each recording.
        num_beams (`int`, defaults to 1): of a search.
        max_units (`int`, *optional*): the most units that are said; the model's own number by default.
        tempo (`float`, defaults to 1.0): of the sound; 2.0 is twice as fast.
        predict_durations (`bool`, defaults to `False`): let the vocoder say how long the units of the recording itself
            last, too, where it is continued or said again.
        speaker (`int`, *optional*): the voice, of a vocoder with several.
        seed (`int`, defaults to 0): of sampling.

    Raises:
        ConfigurationError: a value is out of range, or values contradict each other.
    """

    prompt_seconds: float | None = None
    sample: bool | None = None
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    num_samples: int = 1
    num_beams: int = 1
    max_units: int | None = None
    tempo: float = 1.0
    predict_durations: bool = False
    speaker: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"num_samples": 1, "num_beams": 1, "max_units": 1, "speaker": 0, "seed": 0, "top_k": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigurationError(f"{name} is {value}", hint=f"at least {low}")
        if self.prompt_seconds is not None and not 0 < self.prompt_seconds < math.inf:
            raise ConfigurationError(f"prompt_seconds is {self.prompt_seconds}", hint="above 0")
        if not 0 < self.temperature <= 1000:
            raise ConfigurationError(f"temperature is {self.temperature}", hint="above 0; sample=False is no draw")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p is {self.top_p}", hint="a share above 0, up to 1")
        check_tempo(self.tempo)
        if self.num_samples > 1 and self.sample is False:
            raise ConfigurationError(
                f"num_samples is {self.num_samples} without sampling: all would be the same", hint="sample=True"
            )

    def samples(self, speech_task: str) -> bool:
        """Whether units are drawn.

        Args:
            speech_task (`str`): of the adapter's configuration.

        Raises:
            ConfigurationError: several samples, or several beams, of what is not drawn, or is.
        """
        sample = speech_task == "continuation" if self.sample is None else self.sample
        if self.num_samples > 1 and not sample:
            raise ConfigurationError(
                f"num_samples is {self.num_samples}, and {speech_task} does not sample by default",
                hint="sample=True (--sample)",
            )
        if self.num_beams > 1 and sample:
            raise ConfigurationError(
                f"num_beams is {self.num_beams} where units are drawn", hint="sample=False (--no-sample)"
            )
        return sample

    def search_options(self, speech_task: str) -> dict[str, Any]:
        """Arguments of `generate`, whatever an adapter has saved.

        Args:
            speech_task (`str`): of the adapter's configuration.

        Raises:
            ConfigurationError: see `samples`.
        """
        options: dict[str, Any] = {**PLAIN_SEARCH, "num_beams": self.num_beams}
        if self.samples(speech_task):
            options |= {
                "do_sample": True,
                "temperature": self.temperature,
                "top_k": self.top_k,
                "top_p": self.top_p,
                "num_return_sequences": self.num_samples,
            }
        if self.max_units is not None:
            options["max_new_tokens"] = self.max_units
        return options
