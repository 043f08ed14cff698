"""How to use an adapter, as code that runs when it is copied."""

from __future__ import annotations

import json
import shlex

from ..core.embedded import EMBEDDED_BASES

__all__ = ["use_section"]

_PACKAGE = """from speechprompt_hf import SpeechPromptForAudioClassification
from speechprompt_hf.evaluation import predict_files

model = SpeechPromptForAudioClassification.from_pretrained({name})
for prediction in predict_files(model, ["RECORDING.wav"]):
    print(prediction.file, prediction.label, prediction.probability)"""

_PACKAGE_UNITS = """from transformers import AutoTokenizer

from speechprompt_hf import SpeechPromptForAudioClassification

model = SpeechPromptForAudioClassification.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
inputs = tokenizer([[3, 7, 19], [5, 1]], padding=True, return_tensors="pt")  # the units of two recordings
print([model.config.id2label[label] for label in model(**inputs).logits.argmax(-1).tolist()])"""

_REMOTE = """import numpy
from transformers import AutoModelForAudioClassification, AutoProcessor

model = AutoModelForAudioClassification.from_pretrained({name}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({name}, trust_remote_code=True)
wave = numpy.zeros({rate}, dtype="float32")  # your recording: mono, {rate} samples a second
inputs = processor([wave], sampling_rate={rate}, return_tensors="pt")
print(model.config.id2label[int(model(**inputs).logits.argmax())])"""

_PACKAGE_TEXTS = """from transformers import pipeline

import speechprompt_hf

transcribe = pipeline("automatic-speech-recognition", model={name})
print(transcribe("RECORDING.wav")["text"])"""

_PACKAGE_UNITS_TEXTS = """from transformers import AutoTokenizer

from speechprompt_hf import SpeechPromptForSequenceGeneration

model = SpeechPromptForSequenceGeneration.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
inputs = tokenizer([[3, 7, 19], [5, 1]], padding=True, return_tensors="pt")  # the units of two recordings
print(model.output_tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))"""

_REMOTE_TEXTS = """import numpy
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

model = AutoModelForSpeechSeq2Seq.from_pretrained({name}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({name}, trust_remote_code=True)
wave = numpy.zeros({rate}, dtype="float32")  # your recording: mono, {rate} samples a second
inputs = processor([wave], sampling_rate={rate}, return_tensors="pt")
print(model.output_tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))"""

_PACKAGE_SPEECH = """from speechprompt_hf import SpeechPromptForSpeechGeneration
from speechprompt_hf.generation import generate_files
from speechprompt_hf.modeling.unit_speech import load_vocoder

model = SpeechPromptForSpeechGeneration.from_pretrained({name}).attach_vocoder(load_vocoder({vocoder}))
for speech in generate_files(model, ["RECORDING.wav"], "SPEECH"):
    print(speech.file, speech.lines)"""

_PACKAGE_UNITS_SPEECH = """from transformers import AutoTokenizer

from speechprompt_hf import SpeechPromptForSpeechGeneration

model = SpeechPromptForSpeechGeneration.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
inputs = tokenizer([[3, 7, 19], [5, 1]], padding=True, return_tensors="pt")  # the units of two recordings
print(model.generate_units(**inputs))"""

_REMOTE_SPEECH = """import numpy
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained({name}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({name}, trust_remote_code=True)
wave = numpy.zeros({rate}, dtype="float32")  # your recording: mono, {rate} samples a second
inputs = processor([wave], sampling_rate={rate}, return_tensors="pt")
print(model.generate_units(**inputs))  # the vocoder needs the package"""


def use_section(
    name: str,
    *,
    base_id: str | None,
    has_processor: bool,
    rate_hz: int,
    has_remote_code: bool,
    says_sequences: bool = False,
    answers_with_speech: bool = False,
    vocoder: str | None = None,
) -> str:
    """The section "How to use it": with the package, without it, and on the command line.

    Args:
        name (`str`): repository id or folder.
        base_id (`str`, *optional*): public name of the base, whose repository may hold the code.
        has_processor (`bool`): whether the adapter takes recordings.
        rate_hz (`int`): of the processor.
        has_remote_code (`bool`): whether the adapter names code that opens it.
        says_sequences (`bool`, defaults to `False`): whether it says texts, and is no classifier.
        answers_with_speech (`bool`, defaults to `False`): whether these are units of speech.
        vocoder (`str`, *optional*): public name of their vocoder.
    """
    speaks = vocoder or "VOCODER"
    package, remote = (_PACKAGE_TEXTS, _REMOTE_TEXTS) if says_sequences else (_PACKAGE, _REMOTE)
    units = _PACKAGE_UNITS_TEXTS if says_sequences else _PACKAGE_UNITS
    command = f"speechprompt predict {_shell(name)} RECORDING.wav"
    if answers_with_speech:
        package, remote, units = _PACKAGE_SPEECH, _REMOTE_SPEECH, _PACKAGE_UNITS_SPEECH
        command = f"speechprompt generate {_shell(name)} RECORDING.wav --vocoder {_shell(speaks)} --output SPEECH"
    quoted = json.dumps(name, ensure_ascii=False)
    install = "With the package speechprompt-hf:"
    if not has_processor:
        note = "This adapter was saved without a processor: it takes units, not recordings."
        python = _python(units.format(name=quoted))
        of_units = f"```bash\nspeechprompt predict {_shell(name)} UNITS.parquet\n```"
        line = "On the command line, for a table with a column `units`:"
        return "\n\n".join(["## How to use it", f"{note} {install}", python, line, of_units])
    parts = ["## How to use it", install, _python(package.format(name=quoted, vocoder=json.dumps(speaks)))]
    parts += ["On the command line:", f"```bash\n{command}\n```"]
    if base_id or has_remote_code:
        where = "" if has_remote_code else ", where the base's repository holds the code"
        if base_id in EMBEDDED_BASES and not has_remote_code:
            where += " (the base inside the package has to be published first)"
        parts += [f"Without the package{where}:", _python(remote.format(name=quoted, rate=rate_hz))]
    else:
        parts.append("Without the package it opens only once its base is on the Hub and named here.")
    return "\n\n".join(parts)


def _python(text: str) -> str:
    return f"```python\n{text}\n```"


def _shell(name: str) -> str:
    """A word of a shell command."""
    return shlex.quote(name)
