"""The engine: one base for all, adapters of both kinds; and the same engine in another process."""

import os
import signal
import threading
from multiprocessing.connection import Connection

import numpy as np
import pytest

from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError, UnitError
from speechprompt_hf.serving import DynamicBatcher, EngineProcess, ServedModel, ServingEngine
from speechprompt_hf.serving import engine_process as module
from speechprompt_hf.serving.adapter_groups import ClassScores
from speechprompt_hf.serving.engine import Question, check_name, name_of
from speechprompt_hf.serving.engine_process import EngineEndedError
from speechprompt_hf.serving.refusals import ModelEndedError
from tests.fixtures.speech_encoders import waveforms
from tests.fixtures.speech_generation import save_speaking_folders
from tests.fixtures.tiny_models import PEFT_WARNING

WAVES = waveforms([9000, 14000, 6000])


def ask(engine, name, waves=WAVES, **options):
    questions = [Question(name, np.asarray(wave, np.float32), **options) for wave in waves]
    return engine.answer(engine.group_of(questions[0]), questions)


def test_weights_of_the_base_are_in_memory_once(engine):
    classifiers, texts = (engine._groups[task] for task in ("audio-classification", "automatic-speech-recognition"))
    assert classifiers._model.lm is texts._models["texts"].lm is engine._base.lm
    assert classifiers._model.processor is texts._models["texts"].processor


def test_an_engine_may_begin_with_texts(served_adapters, engine):
    other = ServingEngine.from_adapters({"texts": served_adapters["texts"], "moods": served_adapters["moods"]})
    assert list(other.models) == ["texts", "moods"]
    assert ask(other, "texts") == ask(engine, "texts")
    for one, two in zip(ask(other, "moods"), ask(engine, "moods"), strict=True):
        assert one.labels == two.labels and np.abs(one.logits - two.logits).max() < 1e-5


def test_parts_of_a_batch_answer_as_one(engine, monkeypatch):
    from speechprompt_hf.serving import adapter_groups
    from speechprompt_hf.serving import engine as engine_module

    together = ask(engine, "orders", WAVES * 3)
    for overhead in (0.0, float("inf")):
        monkeypatch.setattr(engine_module, "_OVERHEAD_SECONDS", overhead)
        monkeypatch.setattr(adapter_groups, "_OVERHEAD_TOKENS", overhead)
        for one, two in zip(ask(engine, "orders", WAVES * 3), together, strict=True):
            assert np.abs(one.logits - two.logits).max() < 1e-5


def test_what_is_too_long_is_an_error_in_its_place(engine):
    answers = ask(engine, "words", [WAVES[0], waveforms([160_000])[0]])
    assert isinstance(answers[0], ClassScores) and isinstance(answers[1], UnitError)
    assert isinstance(ask(engine, "texts", waveforms([160_000]))[0], UnitError)


def test_adapters_that_do_not_fit_change_nothing(engine, served_adapters, tmp_path):
    before = engine.models
    with pytest.raises(FingerprintMismatchError):
        engine.load("stranger", served_adapters["stranger"])
    with pytest.raises(AdapterError, match="there is an adapter 'words' already"):
        engine.load("words", served_adapters["moods"])
    with pytest.raises(AdapterError, match=r"has no config\.json"):
        engine.load("empty", tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be called"):
        engine.load("a/b", served_adapters["moods"])
    with pytest.raises(AdapterError, match="there is no adapter 'absent'"):
        engine.unload("absent")
    assert engine.models == before


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_adapters_that_answer_with_speech_are_refused(engine, tmp_path):
    folder = save_speaking_folders(tmp_path) / "adapter"
    with pytest.raises(AdapterError, match=r"answers with speech, and the service .*speechprompt generate ADAPTER"):
        ServingEngine.from_adapters({"stories": folder})
    before = engine.models
    with pytest.raises(AdapterError, match=f"{folder} answers with speech"):
        engine.load("stories", folder)
    assert engine.models == before


def test_engines_that_cannot_be():
    with pytest.raises(ConfigurationError, match="no adapter was given"):
        ServingEngine.from_adapters({})
    with pytest.raises(ConfigurationError, match="no adapter was loaded yet"):
        _ = ServingEngine().feature_extractor
    with pytest.raises(ConfigurationError, match="nonsense"):
        ServingEngine("nonsense")


@pytest.mark.parametrize("name", ["", "a b", "a/b", ".hidden", "ü", "x" * 65, "..", None, 3])
def test_names_that_cannot_stand_in_a_url(name):
    with pytest.raises(ConfigurationError, match="cannot be called"):
        check_name(name)


def test_names_come_from_folders_and_ids(tmp_path, monkeypatch):
    (tmp_path / "words").mkdir()
    monkeypatch.chdir(tmp_path / "words")
    assert name_of(".") == name_of("../words/") == name_of(tmp_path / "words") == "words"
    assert name_of("your-name/my-words") == "my-words"
    (tmp_path / "my words").mkdir()
    with pytest.raises(ConfigurationError, match="--name NAME="):
        name_of(tmp_path / "my words")


class ThreadAsProcess(threading.Thread):
    """The other process's work without another process."""

    def __init__(self, args, **options):
        # As a process does it, it has a copy of its end of the pipe.
        copy = Connection(os.dup(args[0].fileno()))
        super().__init__(args=(copy, *args[1:]), **options)

    def kill(self):
        raise AssertionError("it did not end by itself")


@pytest.fixture
def without_processes(monkeypatch):
    context = type("Context", (), {"Process": ThreadAsProcess, "Pipe": staticmethod(module.multiprocessing.Pipe)})
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda method: context)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1024")
    monkeypatch.setattr(module.signal, "signal", lambda number, handler: None)


def test_an_engine_behind_a_pipe_is_the_same(without_processes, engine, served_adapters):
    names = ("words", "moods", "texts")
    other = EngineProcess({name: served_adapters[name] for name in names}, start_method="spawn")
    assert other.models == {name: engine.models[name] for name in names}
    assert other.feature_extractor.sampling_rate == 16000 and other.is_alive
    assert ask(other, "texts") == ask(engine, "texts")
    for one, two in zip(ask(other, "moods"), ask(engine, "moods"), strict=True):
        assert one.labels == two.labels and np.abs(one.logits - two.logits).max() < 1e-5
    assert other.load("more", served_adapters["orders"]) == ServedModel(
        "more", "audio-classification", engine.models["orders"].labels
    )
    with pytest.raises(FingerprintMismatchError, match="trained"):
        other.load("stranger", served_adapters["stranger"])
    with pytest.raises(AdapterError, match="there is an adapter 'words' already") as refused:
        other.load("words", served_adapters["moods"])
    assert refused.value.hint == "take another name"  # hints survive the way
    with pytest.raises(RuntimeError, match="KeyError: 'nobody'"):
        other.answer(("automatic-speech-recognition", "nobody", 1), [Question("nobody", WAVES[0].astype(np.float32))])
    other.unload("more")
    assert list(other.models) == list(names)
    other.close()
    assert not other.is_alive
    with pytest.raises(EngineEndedError):
        ask(other, "words")


def test_adapters_that_cannot_be_opened_are_told_here(without_processes, tmp_path):
    with pytest.raises(AdapterError, match=r"has no config\.json"):
        EngineProcess({"empty": tmp_path}, start_method="spawn")


def test_the_end_of_the_process_ends_the_batcher(without_processes, served_adapters):
    engine = EngineProcess({"words": served_adapters["words"]}, start_method="spawn")
    batcher = DynamicBatcher(engine.answer)
    batcher.start()
    engine._connection.close()
    question = Question("words", WAVES[0].astype(np.float32))
    futures = [batcher.submit(engine.group_of(question), question, seconds=1, deadline=1e12) for _ in range(3)]
    for future in futures:
        with pytest.raises(ModelEndedError):
            future.result(10)
    batcher.close(5)
    assert not batcher.is_alive


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn"])
def test_a_real_process_answers_and_its_death_is_seen(method, engine, served_adapters):
    other = EngineProcess({"texts": served_adapters["texts"]}, start_method=method)
    assert ask(other, "texts") == ask(engine, "texts")
    os.kill(other._process.pid, signal.SIGKILL)
    with pytest.raises(EngineEndedError):
        ask(other, "texts")
    assert not other.is_alive
