import json
import sys

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from speechprompt_hf.core.errors import ConfigurationError, MissingDependencyError
from speechprompt_hf.explanation import Phone, ctc_phones, phones_of_units, read_textgrid
from speechprompt_hf.explanation import phones as module

needs_praatio = pytest.mark.skipif(
    __import__("importlib").util.find_spec("praatio") is None, reason="the extra explain is not installed"
)

INTERVALS = {
    "words": [("yes", 0.0, 0.6)],
    "phones": [("j", 0.0, 0.1), ("E", 0.1, 0.35), ("", 0.35, 0.4), ("s", 0.4, 0.6)],
    "syllables": [(f"x{number}", number / 10, (number + 1) / 10) for number in range(6)],
}


def textgrid(tiers=INTERVALS, short=False):
    """A TextGrid as Praat writes it."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    if short:
        lines += ["0", "0.6", "<exists>", str(len(tiers))]
        for name, entries in tiers.items():
            lines += ['"IntervalTier"', f'"{name}"', "0", "0.6", str(len(entries))]
            lines += [str(value) for text, start, end in entries for value in (start, end, f'"{text}"')]
        return "\n".join(lines) + "\n"
    lines += ["xmin = 0 ", "xmax = 0.6 ", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for index, (name, entries) in enumerate(tiers.items(), 1):
        lines += [f"    item [{index}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 0.6 ", f"        intervals: size = {len(entries)} "]
        for number, (text, start, end) in enumerate(entries, 1):
            lines += [f"        intervals [{number}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines += [f'            text = "{text}" ']
    return "\n".join(lines) + "\n"


@needs_praatio
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("short", [False, True])
def test_textgrids_are_read_in_all_their_forms(tmp_path, short, encoding):
    path = tmp_path / "one.TextGrid"
    path.write_text(textgrid(short=short), encoding=encoding)
    assert read_textgrid(path) == [Phone("j", 0.0, 0.1), Phone("E", 0.1, 0.35), Phone("s", 0.4, 0.6)]
    assert read_textgrid(path, "words") == [Phone("yes", 0.0, 0.6)]


@needs_praatio
def test_without_a_tier_of_phones_the_one_with_most_intervals_is_read(tmp_path):
    path = tmp_path / "one.TextGrid"
    path.write_text(textgrid({name: INTERVALS[name] for name in ("words", "syllables")}))
    assert [phone.name for phone in read_textgrid(path)] == [f"x{number}" for number in range(6)]


@needs_praatio
@pytest.mark.parametrize(
    ("content", "tier", "words"),
    [
        (None, None, "is no file"),
        (b"this is no grid", None, "cannot be read as a TextGrid"),
        (b"", None, "cannot be read as a TextGrid"),
        (b"[1, 2]", None, "cannot be read as a TextGrid"),
        (textgrid().encode()[:300], None, "cannot be read as a TextGrid"),
        (b"\xff\xfe\x00", None, "cannot be read as a TextGrid"),
        (textgrid().encode(), "phone", "no tier of intervals 'phone'.*words, phones, syllables"),
        (textgrid({"words": [("", 0, 0.6)]}).encode(), None, "no intervals with names"),
    ],
)
def test_files_that_are_no_textgrids_are_named(tmp_path, content, tier, words):
    path = tmp_path / "one.TextGrid"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        read_textgrid(path, tier)


@needs_praatio
def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", 100)
    (tmp_path / "one.TextGrid").write_text(textgrid())
    with pytest.raises(ConfigurationError, match="more than the 100"):
        read_textgrid(tmp_path / "one.TextGrid")


def test_without_praatio_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "praatio.textgrid", None)
    with pytest.raises(MissingDependencyError, match=r"speechprompt-hf\[explain\]"):
        read_textgrid(tmp_path / "one.TextGrid")


def test_a_unit_has_the_phone_it_shares_most_time_with():
    phones = [Phone("a", 0.0, 0.1), Phone("b", 0.1, 0.3), Phone("c", 0.5, 0.6)]
    starts, ends = np.array([0.0, 0.06, 0.2, 0.3, 0.45]), np.array([0.06, 0.2, 0.3, 0.45, 2.0])
    assert phones_of_units(starts, ends, phones) == ["a", "b", "b", None, "c"]
    assert phones_of_units(starts, ends, []) == [None] * 5


@pytest.fixture(scope="session")
def ctc_folder(tmp_path_factory):
    """A CTC model on random weights, whose frames last 320 samples."""
    folder = tmp_path_factory.mktemp("ctc")
    names = ["<pad>", "<unk>", "|", "A", "B", "C"]
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), bos_token=None, eos_token=None)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_transcript_is_aligned_by_a_ctc_model(ctc_folder, waveform, monkeypatch):
    said = []
    real = module._open_ctc

    def opened(name):
        model, extractor, tokenizer = real(name)
        # A made-up model: A in frames 4 and 5, B in frame 14, blank everywhere else.
        frames = torch.full((1, 24, 6), -20.0)
        frames[..., 0] = 0
        for frame, token in ((4, 3), (5, 3), (14, 4)):
            frames[0, frame, 0], frames[0, frame, token] = -20.0, 0.0

        def answer(**inputs):
            said.append(inputs["input_values"].shape)
            return type("Output", (), {"logits": frames})()

        answer.config = model.config
        return answer, extractor, tokenizer

    assert [phone.name for phone in ctc_phones(waveform, 16000, ctc_folder, "AB")] == ["A", "B"]
    monkeypatch.setattr(module, "_open_ctc", opened)
    first, second = ctc_phones(waveform, 16000, ctc_folder, "AB")
    frame = 8000 / 16000 / 24
    assert (first.start, first.end) == pytest.approx((4 * frame, 10 * frame))
    assert (second.start, second.end) == pytest.approx((10 * frame, 15 * frame))
    # A recording at another rate reaches the model at its own.
    ctc_phones(np.repeat(waveform, 2), 32000, ctc_folder, "AB")
    assert said[0] == said[1] == (1, 8000)


@pytest.mark.parametrize(
    ("transcript", "words"), [("", "no token"), ("xyz", "no token"), ("ABC" * 20, "targets need 60 frames")]
)
def test_transcripts_that_do_not_fit_are_named(ctc_folder, waveform, transcript, words):
    with pytest.raises(ConfigurationError, match=words):
        ctc_phones(waveform, 16000, ctc_folder, transcript)


def test_a_folder_without_a_ctc_model_is_named(tmp_path, waveform):
    with pytest.raises(ConfigurationError, match="cannot be opened as a CTC model"):
        ctc_phones(waveform, 16000, tmp_path, "AB")
