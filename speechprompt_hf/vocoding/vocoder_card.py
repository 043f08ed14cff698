"""The model card of a trained vocoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.files import write_text
from ..modeling.modeling_unit_vocoder import UnitVocoder
from ..modeling.modeling_unit_vocos import UnitVocos
from .aligned_speech import AlignedSpeech
from .vocoder_settings import VocoderTrainingConfig

__all__ = ["write_vocoder_card"]

_CARD = """---
{metadata}---
# {name}

A vocoder: speech units to {rate} Hz speech, by `{architecture}` with {parameters} parameters, {size} MB in
{precision} precision.

```python
import torch
from transformers import AutoModel

import speechprompt_hf
from speechprompt_hf import SpeechUnitProcessor

processor = SpeechUnitProcessor.from_pretrained({base!r})
vocoder = AutoModel.from_pretrained({name!r})
[sequence] = processor.encode_units("RECORDING.wav")
with torch.no_grad():
    waveform = vocoder(torch.from_numpy(sequence.units)[None]{speaker}).waveform[0]
```

Merged units get their durations from the vocoder; `durations=` takes those of the recording. `generate_stream` makes
sound while units are still arriving.

## Units

{num_units} units of {base}, {frame_rate:g} frames a second; digest of what makes them: `{digest}`. Units of anything
else come out as noise.

## Training

{updates} updates on {minutes:.1f} minutes of speech{voices}; {losses}. {results}

The vocoder speaks with the voice of its training data: their licence, and the consent of who speaks, decide what it
may be used for.
"""


def write_vocoder_card(
    folder: Path,
    vocoder: UnitVocoder,
    config: VocoderTrainingConfig,
    speech: AlignedSpeech,
    *,
    base: str,
    num_steps: int,
    report: Mapping[str, float],
    license: str | None = None,
) -> Path:
    """Writes `README.md` beside a vocoder.

    Args:
        folder (`Path`): of the vocoder.
        vocoder (`UnitVocoder`): trained.
        config ([`VocoderTrainingConfig`]): how.
        speech ([`AlignedSpeech`]): on what.
        base (`str`): what made the units, as users name it.
        num_steps (`int`): updates.
        report (`Mapping[str, float]`): the last validation.
        license (`str`, *optional*): of the weights.

    Returns:
        `Path`: of the card.
    """
    values: dict[str, Any] = {"license": license, "library_name": "transformers", "pipeline_tag": "text-to-speech"}
    lines = [f"{name}: {value}\n" for name, value in values.items() if value is not None]
    results = [
        f"{text} {report[name]:.3f}{unit}"
        for name, text, unit in (
            ("validation_mel", "Held out: mean absolute difference of log mel spectra", ""),
            ("validation_duration", "of predicted durations", " frames"),
        )
        if name in report
    ]
    parameters = vocoder.num_parameters()
    fingerprint = vocoder.config.fingerprint or {}
    num_voices = len(speech.speakers)
    # As `save_vocoder` writes them.
    is_half = isinstance(vocoder, UnitVocos)
    text = _CARD.format(
        metadata="".join([*lines, "tags: [speech, unit vocoder, speechprompt]\n"]),
        name=folder.name,
        rate=vocoder.sampling_rate,
        architecture=type(vocoder).__name__,
        parameters=f"{parameters:,}",
        size=f"{(2 if is_half else 4) * parameters / 1e6:.1f}",
        precision="half" if is_half else "single",
        base=base,
        speaker=", speaker_ids=torch.tensor([0])" if num_voices else "",
        num_units=vocoder.config.vocab_size,
        frame_rate=vocoder.frame_rate,
        digest=fingerprint.get("digest"),
        updates=num_steps,
        minutes=speech.seconds / 60,
        voices=f" of {num_voices} voices: {', '.join(speech.speakers[:20])}" if num_voices else "",
        losses=_losses(config.adversarial_start, num_steps),
        results=", ".join(results) + ("." if results else ""),
    )
    write_text(folder / "README.md", text)
    return folder / "README.md"


def _losses(adversarial_start: int, num_steps: int) -> str:
    if num_steps <= adversarial_start:
        return "the mel loss alone"
    if not adversarial_start:
        return "HiFi-GAN's losses"
    return f"the mel loss alone for the first {adversarial_start} of them, then HiFi-GAN's losses"
