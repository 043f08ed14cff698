"""`pipeline("automatic-speech-recognition")`: models of this package say texts, and stock models stay as they were."""

import json
import re
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    AutomaticSpeechRecognitionPipeline,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
    pipeline,
)

from speechprompt_hf import (
    DEFAULT_BASE,
    SpeechPromptForAudioClassification,
    SpeechPromptForSpeechGeneration,
    SpeechUnitProcessor,
    audio_pipeline,
)
from speechprompt_hf.audio_pipeline import SpeechPromptSpeechRecognitionPipeline
from speechprompt_hf.core.errors import (
    AdapterError,
    AudioDecodeError,
    AudioError,
    ConfigurationError,
    SamplingRateError,
)
from tests.fixtures.sequences import saying_model
from tests.fixtures.speech_generation import save_speaking_folders
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)

TASK = "automatic-speech-recognition"
RATE = 16_000


def tone(seconds, hertz):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


WAVES = [tone(1.0, 220), tone(0.5, 1800), np.concatenate([tone(0.4, 500), tone(0.7, 3000)])]


@pytest.fixture(scope="module")
def model():
    return saying_model(processor=SpeechUnitProcessor.from_pretrained(DEFAULT_BASE))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def transcribe(folder):
    return pipeline(TASK, model=folder, device="cpu")


def said(model, wave, **options):
    inputs = model.processor([wave], sampling_rate=RATE, return_tensors="pt")
    (tokens,) = model.generate(**inputs, **options)
    return {"text": model.output_tokenizer.decode(tokens, skip_special_tokens=True)}


@pytest.fixture(scope="module")
def texts(model):
    return [said(model, wave) for wave in WAVES]


def test_every_form_of_a_recording_gives_what_the_model_says(transcribe, texts, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert len({text["text"] for text in texts}) > 1 and all(text["text"] for text in texts)
    path = tmp_path / "a.wav"
    soundfile.write(path, WAVES[0], RATE, subtype="FLOAT")
    forms = [
        str(path),
        path.read_bytes(),
        WAVES[0],
        torch.from_numpy(WAVES[0]),
        np.stack([WAVES[0], WAVES[0]]),
        {"array": WAVES[0], "sampling_rate": RATE},
        {"raw": WAVES[0], "sampling_rate": RATE},
        {"bytes": None, "path": str(path)},
    ]
    for form in forms:
        assert transcribe(form) == texts[0]
    resampled = transcribe({"array": WAVES[0][::2], "sampling_rate": RATE // 2})
    assert set(resampled) == {"text"}


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"batch_size": 3, "num_workers": 1}])
def test_lists_and_generators_in_batches(transcribe, texts, options):
    assert transcribe(list(WAVES), **options) == texts
    stream = transcribe((wave for wave in WAVES), **options)
    assert not isinstance(stream, list) and list(stream) == texts


def test_options_reach_generate(transcribe, model, folder):
    wanted = [said(model, wave, num_beams=3, max_new_tokens=5) for wave in WAVES]
    assert transcribe(WAVES, generate_kwargs={"num_beams": 3, "max_new_tokens": 5}) == wanted
    assert transcribe(WAVES, num_beams=3, max_new_tokens=5, batch_size=3) == wanted
    beams = pipeline(TASK, model=folder, device="cpu", num_beams=3, max_new_tokens=5)
    assert beams(WAVES) == wanted
    # Not transformers' five beams.
    assert transcribe(WAVES[0]) == said(model, WAVES[0], num_beams=1)


@pytest.mark.parametrize(
    "options",
    [
        {"return_timestamps": True},
        {"return_timestamps": "word"},
        {"chunk_length_s": 10},
        {"return_language": True},
        {"num_beams": 2, "num_return_sequences": 2},
    ],
)
def test_what_other_models_do_is_refused_in_a_sentence(transcribe, options):
    with pytest.raises(ConfigurationError, match=r"leave \w+ out|num_return_sequences=1"):
        transcribe(WAVES[0], **options)
    assert transcribe(WAVES[0], return_timestamps=False)["text"]


def test_recordings_that_cannot_be_read_are_named(transcribe, tmp_path):
    with pytest.raises(AudioDecodeError, match=r"absent\.wav"):
        transcribe("absent.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioDecodeError, match=r"text\.wav"):
        transcribe(str(tmp_path / "text.wav"))
    with pytest.raises(SamplingRateError):
        transcribe({"array": WAVES[0], "sampling_rate": -1})


def test_a_model_in_hand_the_class_by_name_and_saving(model, folder, texts, tmp_path):
    parts = {"feature_extractor": model.processor.feature_extractor, "tokenizer": model.output_tokenizer}
    by_model = pipeline(TASK, model=model, **parts, device="cpu")
    by_class = pipeline(TASK, model=folder, pipeline_class=SpeechPromptSpeechRecognitionPipeline, device="cpu")
    for each in (by_model, by_class):
        assert type(each) is SpeechPromptSpeechRecognitionPipeline and each(WAVES) == texts
        assert each.tokenizer.get_vocab() == model.output_tokenizer.get_vocab()
    pipeline(TASK, model=folder, device="cpu").save_pretrained(tmp_path)
    assert pipeline(TASK, model=str(tmp_path), device="cpu")(WAVES) == texts


def test_a_classifier_is_no_recogniser(tmp_path):
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, ["a", "b"], processor=processor).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="open it with SpeechPromptForAudioClassification"):
        pipeline(TASK, model=str(tmp_path))


def test_a_model_without_a_processor_is_not_saved_by_the_pipeline(tmp_path):
    model = saying_model()
    extractor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE).feature_extractor
    parts = {"feature_extractor": extractor, "tokenizer": model.output_tokenizer}
    with pytest.raises(AdapterError, match="no processor"):
        pipeline(TASK, model=model, **parts, device="cpu").save_pretrained(tmp_path)


@pytest.mark.slow
def test_the_lines_of_the_documentation_run(model, tmp_path):
    text = (Path(__file__).resolve().parents[3] / "docs" / "opening.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "my-recogniser" in block]
    assert len(blocks) == 2
    model.save_pretrained(tmp_path / "my-recogniser")
    soundfile.write(tmp_path / "recording.wav", WAVES[0], RATE, subtype="FLOAT")
    code = "\n".join([*blocks, "print(texts)"])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    greedy, searched = said(model, WAVES[0])["text"], said(model, WAVES[0], num_beams=4)["text"]
    assert done.stdout.splitlines() == [greedy, str([searched]), str([{"text": searched}] * 2)]


# Stock models


@pytest.fixture
def stock_ctc(tmp_path):
    symbols = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "C": 7}
    (tmp_path / "vocab.json").write_text(json.dumps(symbols))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (10, 8), "num_feat_extract_layers": 2}
    config = Wav2Vec2Config(
        **sizes, **convolutions, vocab_size=len(symbols), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2
    )
    return {
        "model": Wav2Vec2ForCTC(config).eval(),
        "feature_extractor": Wav2Vec2FeatureExtractor(),
        "tokenizer": Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")),
        "device": "cpu",
    }


def test_a_ctc_model_is_served_as_before(stock_ctc, tmp_path):
    ours = pipeline(TASK, **stock_ctc)
    stock = pipeline(TASK, **stock_ctc, pipeline_class=AutomaticSpeechRecognitionPipeline)
    assert type(ours) is SpeechPromptSpeechRecognitionPipeline and ours.type == stock.type == "ctc"
    for options in ({}, {"return_timestamps": "char"}, {"chunk_length_s": 0.5, "batch_size": 2}):
        expected = stock(list(WAVES), **options)
        assert ours(list(WAVES), **options) == expected and any(entry["text"] for entry in expected)
    with pytest.raises(ValueError, match="CTC can either predict character level timestamps"):
        ours(WAVES[0], return_timestamps=True)
    for part in ("model", "feature_extractor", "tokenizer"):
        stock_ctc[part].save_pretrained(tmp_path / "stock")
    by_folder = pipeline(TASK, model=str(tmp_path / "stock"), device="cpu")
    assert by_folder(WAVES[0]) == stock(WAVES[0])
    by_folder.save_pretrained(tmp_path / "again")
    assert pipeline(TASK, model=str(tmp_path / "again"), device="cpu")(WAVES[0]) == stock(WAVES[0])


def test_a_generating_stock_model_keeps_transformers_defaults(stock_ctc):
    config = WhisperConfig(
        vocab_size=60,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_start_token_id=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    parts = {**stock_ctc, "model": WhisperForConditionalGeneration(config).eval()}
    ours = pipeline(TASK, **parts)
    stock = pipeline(TASK, **parts, pipeline_class=AutomaticSpeechRecognitionPipeline)
    assert ours.type == stock.type == "seq2seq_whisper"
    assert ours._generation_defaults == stock._generation_defaults and ours._generation_defaults["num_beams"] == 5


def test_an_address_is_read_up_to_a_limit(transcribe, texts, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", WAVES[0], RATE, subtype="FLOAT")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.wav"
        assert transcribe(address) == texts[0]
        monkeypatch.setattr(audio_pipeline, "_MAX_DOWNLOAD_BYTES", 1000)
        with pytest.raises(AudioError, match=r"a\.wav is larger than 1000 bytes"):
            transcribe(address)
        processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
        classifier = SpeechPromptForAudioClassification.from_base(DEFAULT_BASE, ["a", "b"], processor=processor)
        classify = pipeline("audio-classification", model=classifier, feature_extractor=processor.feature_extractor)
        with pytest.raises(AudioError, match="larger than 1000 bytes"):
            classify(address)
        monkeypatch.undo()
        assert {answer["label"] for answer in classify(address)} == {"a", "b"}
        server.shutdown()


def test_adapters_that_answer_with_speech_name_the_command_for_them(tmp_path):
    folder = save_speaking_folders(tmp_path) / "adapter"
    model = SpeechPromptForSpeechGeneration.from_pretrained(folder)
    extractor = model.processor.feature_extractor
    for task, what in ((TASK, "texts"), ("audio-classification", "labels")):
        expected = f"answers with speech, and this pipeline answers with {what} .*speechprompt generate ADAPTER"
        with pytest.raises(AdapterError, match=expected):
            pipeline(task, model=model, feature_extractor=extractor, tokenizer=model.output_tokenizer)
        # What a class refuses, transformers gives as a list of what it has tried: the sentence stands at its end.
        with pytest.raises(ValueError, match="Could not load model") as raised:
            pipeline(task, model=str(folder))
        last = str(raised.value).strip().splitlines()[-1]
        assert last.startswith(f"speechprompt_hf.core.errors.AdapterError: {folder} answers with speech, and ")
        assert last.endswith("or use speechprompt generate ADAPTER RECORDING...)")
