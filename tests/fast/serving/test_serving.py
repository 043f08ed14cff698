"""Answers for many tasks: equal to each file and task alone, units made once a file, errors that stop nothing."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.evaluation import predict_files
from speechprompt_hf.modeling import SpeechPromptForAudioClassification
from speechprompt_hf.serving import SpeechPromptServer
from tests.fixtures.speech_encoders import unit_processor, waveforms
from tests.fixtures.tiny_models import count_calls, randomize, tiny_lm

NUM_UNITS = 20
TASKS = {
    "words": (["no", "yes"], {}),
    "moods": (["sad", "glad", "calm"], {"prompt": "input", "num_virtual_tokens": 3, "readout": "pooled"}),
    "orders": (
        ["on, light", "on, heat", "off, light"],
        {"label_sequences": [[0, 0], [0, 1], [1, 0]], "num_virtual_tokens": 2},
    ),
    "speakers": ([f"speaker {index}" for index in range(5)], {"method": "probe"}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base with its processor, as pretraining leaves one."""
    folder = tmp_path_factory.mktemp("base")
    processor = unit_processor(num_units=NUM_UNITS)
    lm = tiny_lm(vocab_size=NUM_UNITS + 4, max_position_embeddings=60, fingerprint=processor.fingerprint)
    lm.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    processor = unit_processor(num_units=NUM_UNITS)
    for seed, (task, (labels, options)) in enumerate(TASKS.items()):
        model = SpeechPromptForAudioClassification.from_base(str(base), labels, seed=seed, **options)
        randomize(model.verbalizer, seed=seed, std=0.05)
        model.save_pretrained(root / task)
        processor.save_pretrained(root / task, base_source=str(base))
    return {task: root / task for task in TASKS}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    paths = []
    for index, wave in enumerate(waveforms([9000, 14000, 6000, 14000, 11000])):
        paths.append(folder / f"{index}.wav")
        soundfile.write(paths[-1], wave, 16000)
    return paths


@pytest.fixture(scope="module")
def server(adapters):
    return SpeechPromptServer.from_adapters(adapters, max_batch_size=4)


def test_answers_equal_each_file_and_task_alone(server, adapters, recordings):
    requests = [(path, task) for path in recordings for task in TASKS]
    generator = np.random.default_rng(0)
    requests = [requests[index] for index in generator.permutation(len(requests))]
    answers = server.predict(requests)
    assert [(answer.file, answer.task) for answer in answers] == [(str(path), task) for path, task in requests]
    assert len({(answer.label, round(answer.probability, 3)) for answer in answers}) > 2 * len(TASKS)
    for task, folder in adapters.items():
        model = SpeechPromptForAudioClassification.from_pretrained(folder)
        expected = {prediction.file: prediction for prediction in predict_files(model, recordings)}
        for answer in answers:
            if answer.task == task:
                assert answer.error is None
                assert answer.label == expected[answer.file].label
                assert abs(answer.probability - expected[answer.file].probability) < 1e-4


def test_units_are_made_once_a_file_and_batches_mix_tasks(server, recordings, monkeypatch):
    encoded = []
    encode = server._processor.encode_units

    def count(waves, **options):
        encoded.append(len(waves))
        return encode(waves, **options)

    monkeypatch.setattr(server._processor, "encode_units", count)
    passes = count_calls(server.model.lm.model)
    answers = server.predict([(path, task) for task in ("words", "moods", "speakers") for path in recordings[:4]])
    assert len(answers) == 12
    assert sum(encoded) == 4
    assert len(passes) == 3  # 12 rows of three tasks, 4 a batch


def test_what_cannot_be_answered_stops_nothing(server, recordings, tmp_path):
    broken, short, long = (tmp_path / f"{name}.wav" for name in ("broken", "short", "long"))
    broken.write_bytes(b"this is no sound")
    soundfile.write(short, np.zeros(20, np.float32), 16000)
    soundfile.write(long, waveforms([160000])[0], 16000)
    files = [recordings[0], broken, short, long, tmp_path / "absent.wav", recordings[1], recordings[1]]
    tasks = ["words", "words", "moods", "words", "speakers", "moods", "songs"]
    answers = server.predict(zip(files, tasks, strict=True))
    assert [answer.error is None for answer in answers] == [True, False, False, False, False, True, False]
    assert all((answer.label is None) == (answer.error is not None) for answer in answers)
    assert "cannot be read as sound" in answers[1].error and str(broken) in answers[1].error
    assert "short.wav" in answers[2].error
    assert "more than the 58 that the base reads at once" in answers[3].error
    assert "absent.wav" in answers[4].error
    assert answers[6].error == "there is no task 'songs'; known are 'words', 'moods', 'orders', 'speakers'"
    alone = server.predict([(recordings[1], "moods")])[0]
    assert answers[5].label == alone.label
    assert abs(answers[5].probability - alone.probability) < 1e-6
    assert server.predict([]) == []
    assert server.predict([(broken, "words")])[0].error == answers[1].error


def test_a_task_may_be_called_default(adapters, recordings):
    server = SpeechPromptServer.from_adapters({"default": adapters["words"], "moods": adapters["moods"]})
    assert server.tasks == ["default", "moods"]
    assert server.predict([(recordings[0], "default")])[0].label in ("no", "yes")


def test_the_first_adapter_of_a_subfolder_is_served(adapters, tmp_path):
    # Another adapter lies at the root of the same folder.
    root = shutil.copytree(adapters["words"], tmp_path / "root")
    shutil.copytree(adapters["moods"], root / "inner")
    server = SpeechPromptServer.from_adapters({"task": root}, subfolder="inner")
    assert server.tasks == ["task"] and server.model.config.class_names == ["sad", "glad", "calm"]


def test_servers_that_cannot_be(adapters, base):
    with pytest.raises(ConfigurationError, match="no adapter was given"):
        SpeechPromptServer.from_adapters({})
    model = SpeechPromptForAudioClassification.from_pretrained(adapters["words"])
    with pytest.raises(ConfigurationError, match="max_batch_size is 0"):
        SpeechPromptServer(model, max_batch_size=0)
    bare = SpeechPromptForAudioClassification.from_base(tiny_lm(), ["a", "b"])
    with pytest.raises(AdapterError, match="no processor that makes units"):
        SpeechPromptServer(bare)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ("a.wav", r"requests is 'a\.wav', no list .*\[\('a\.wav', 'words'\)\]"),
        ({"a.wav": "words"}, r"requests is \{'a\.wav': 'words'\}, no list"),
        (None, "requests is None, no list"),
        # One pair instead of a list of pairs; the second could be taken apart into two letters.
        (("a.wav", "words"), r"request 0 is 'a\.wav', no pair of a file and a task"),
        (("ab", "cd"), "request 0 is 'ab', no pair"),
        ([("a.wav", "words"), ("b.wav",)], r"request 1 is \('b\.wav',\), no pair"),
        ([("a.wav", "words", "moods")], r"request 0 is \('a\.wav', 'words', 'moods'\), no pair"),
        ([("a.wav", None)], r"request 0 is \('a\.wav', None\), no pair"),
        ([("a.wav", ["words", "moods"])], r"request 0 is \('a\.wav', \['words', 'moods'\]\), no pair"),
        ([(np.zeros(9000, np.float32), "words")], r"request 0 is \(array\(.*, no pair"),
        ([3], "request 0 is 3, no pair"),
    ],
)
def test_requests_of_another_form_are_named(server, requests, message):
    with pytest.raises(ConfigurationError, match=message):
        server.predict(requests)


def test_nothing_to_answer_is_no_error(server):
    assert server.predict([]) == server.predict(iter(())) == []


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ("adapters/words", r"adapters is 'adapters/words', no mapping .*\{'words': 'adapters/words'\}"),
        (["adapters/words"], r"adapters is \['adapters/words'\], no mapping"),
        ({"words": None}, "the adapter of task 'words' is None"),
        ({"words": ["a", "b"]}, r"the adapter of task 'words' is \['a', 'b'\]"),
        ({3: "adapters/words"}, "the name of a task is 3"),
        ({"": "adapters/words"}, "the name of a task is ''"),
        ({}, "no adapter was given"),
    ],
)
def test_adapters_of_another_form_are_named(adapters, message):
    with pytest.raises(ConfigurationError, match=message):
        SpeechPromptServer.from_adapters(adapters)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", None, True])
def test_batch_sizes_that_cannot_be_are_named_before_anything_is_opened(size):
    with pytest.raises(ConfigurationError, match=f"max_batch_size is {size!r}"):
        SpeechPromptServer.from_adapters({"words": "no such folder"}, max_batch_size=size)


def test_a_device_that_cannot_be_used_is_named_before_anything_is_opened():
    with pytest.raises(ConfigurationError, match="nonsense"):
        SpeechPromptServer.from_adapters({"words": "no such folder"}, device="nonsense")


def test_the_server_does_not_train(adapters):
    model = SpeechPromptForAudioClassification.from_pretrained(adapters["words"]).train()
    server = SpeechPromptServer(model)
    assert not server.model.training
    assert server.tasks == ["default"]
    assert isinstance(server.model.device, torch.device)
