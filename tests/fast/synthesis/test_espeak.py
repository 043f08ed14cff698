import sys
from pathlib import Path

import numpy as np
import pytest

from speechprompt_hf.core.errors import ConfigurationError, MissingDependencyError, SpeechPromptError
from speechprompt_hf.synthesis import espeak
from speechprompt_hf.synthesis.espeak import ENGLISH_VOICES, VARIANTS, Utterance, speak_many

installed = pytest.mark.skipif(not espeak.is_available(), reason="espeakng-loader is not installed")


@installed
def test_voices_pitch_and_speed_make_different_sounds():
    utterances = [
        Utterance("seven"),
        Utterance("seven", variant="f3"),
        Utterance("seven", voice="en-gb-scotland"),
        Utterance("seven", pitch=90),
        Utterance("seven", words_per_minute=300),
        Utterance("eleven"),
    ]
    spoken = speak_many(utterances)
    assert [rate for _, rate in spoken] == [22_050] * 6
    waves = [wave for wave, _ in spoken]
    assert all(wave.dtype == np.float32 and 0.05 < np.abs(wave).max() <= 1 for wave in waves)
    assert len(waves[4]) < 0.9 * len(waves[0])
    for index, wave in enumerate(waves):
        for other in waves[index + 1 :]:
            assert len(wave) != len(other) or not np.array_equal(wave, other)


@installed
def test_order_is_kept_and_the_same_list_gives_the_same_samples():
    utterances = [Utterance(text) for text in ("one", "a much longer sentence than that", "one")]
    spoken, again = speak_many(utterances), speak_many(utterances)
    assert len(spoken[1][0]) > 2 * len(spoken[0][0])
    for (left, _), (right, _) in zip(spoken, again, strict=True):
        np.testing.assert_array_equal(left, right)


@installed
def test_every_listed_voice_exists():
    spoken = speak_many(
        [Utterance("go", voice=voice) for voice in ENGLISH_VOICES]
        + [Utterance("go", variant=name) for name in VARIANTS]
    )
    assert all(len(wave) > 2000 for wave, _ in spoken)


@installed
def test_many_requests_do_not_block():
    assert len(speak_many([Utterance("go " * 40)] * 60)) == 60


@installed
def test_an_unknown_voice_names_the_utterance():
    with pytest.raises(ConfigurationError, match=r"Utterance 1 \('two'\).*nowhere-at-all"):
        speak_many([Utterance("one"), Utterance("two", voice="nowhere-at-all")])


@installed
def test_the_engine_is_not_loaded_into_this_process():
    speak_many([Utterance("go")])
    assert "espeakng_loader" not in sys.modules
    maps = Path("/proc/self/maps")
    assert not maps.exists() or "espeak-ng" not in maps.read_text()


def test_without_the_engine_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(espeak, "is_available", lambda: False)
    with pytest.raises(MissingDependencyError, match="pip install espeakng-loader"):
        speak_many([Utterance("one")])


def test_a_dead_worker_is_reported(monkeypatch, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys; sys.exit('no engine here')")
    monkeypatch.setattr(espeak, "_WORKER", script)
    monkeypatch.setattr(espeak, "is_available", lambda: True)
    with pytest.raises(SpeechPromptError, match="no engine here"):
        speak_many([Utterance("one")])
