"""Models that answer with speech: units, sound, files, doors, and what damaged ones are answered with."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSpeechSeq2Seq,
)

from speechprompt_hf import UnitHifiGan
from speechprompt_hf.core.errors import (
    AdapterError,
    ConfigurationError,
    FingerprintMismatchError,
    LabelError,
    SpeechPromptError,
    UnitError,
)
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling import (
    SpeechPromptConfig,
    SpeechPromptForAudioClassification,
    SpeechPromptForSequenceGeneration,
    SpeechPromptForSpeechGeneration,
)
from speechprompt_hf.modeling.target_units import (
    MAX_TARGET_UNITS,
    check_unit_tokenizer,
    target_units_record,
    tokens_to_units,
    unit_output_tokenizer,
    units_to_tokens,
)
from speechprompt_hf.modeling.unit_speech import load_vocoder, speak_units
from speechprompt_hf.processors import build_output_tokenizer
from tests.fixtures.sequence_models import UTTERANCES, make_sequence_model, tiny_base
from tests.fixtures.speech_generation import save_vocoder, speaking_model
from tests.fixtures.tiny_models import PEFT_WARNING, pad, tiny_lm
from tests.fixtures.vocoders import tiny_vocoder, tiny_vocos

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
PLAIN = {"do_sample": False, "num_beams": 1}


@pytest.fixture(scope="module", params=["gslm", "mbart"])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    lm, _ = tiny_base(request.param, folder / "made")
    lm.save_pretrained(folder / "base")
    return folder / "base"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny_lm(seed=10).save_pretrained(folder / "base")
    speaking_model(folder / "base", vocoder_name_or_path="org/vocoder").save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def adapter(saved, tmp_path):
    return shutil.copytree(saved / "adapter", tmp_path / "adapter")


def answers(model, **search):
    ids, mask = pad(UTTERANCES)
    return [row.tolist() for row in model.generate_units(input_ids=ids, attention_mask=mask, **{**PLAIN, **search})]


def change(folder, name="config.json", **values):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_unit_tokens_are_the_units_in_their_order():
    tokenizer = unit_output_tokenizer(12)
    assert len(tokenizer) == 16
    assert tokenizer("11 0 7").input_ids == [15, 4, 11, 2] == units_to_tokens([11, 0, 7])
    assert tokenizer("12").input_ids == [3, 2]
    assert tokenizer.decode([15, 4, 11, 2], skip_special_tokens=True) == "11 0 7"


def test_tokens_to_units_merges_and_stops_at_the_end():
    assert tokens_to_units([5, 5, 4, 1, 4, 5, 2, 9]) == [1, 0, 1]
    assert tokens_to_units([-100, 0, 1, 2]) == []
    assert tokens_to_units([]) == []


def test_other_tokenizers_are_refused():
    with pytest.raises(ConfigurationError, match=r"has 3 words, and there are 4 target units"):
        check_unit_tokenizer(unit_output_tokenizer(3), 4)
    with pytest.raises(ConfigurationError, match=r"token 6 of the output tokenizer is '10', not unit 2"):
        check_unit_tokenizer(build_output_tokenizer([" ".join(map(str, range(11)))], "words"), 11)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ((0,), "num_units of target_units is 0"),
        ((MAX_TARGET_UNITS + 1,), "num_units of target_units"),
        (("4",), "num_units of target_units is '4'"),
        ((True,), "num_units of target_units is True"),
        ((4, {"digest": 3}), "fingerprint of target_units"),
        ((4, {}), "fingerprint of target_units"),
        ((4, None, 0.0), r"frame_rate of target_units is 0\.0"),
        ((4, None, float("nan")), "frame_rate of target_units is nan"),
    ],
    ids=str,
)
def test_impossible_target_units_are_refused(values, match):
    with pytest.raises(ConfigurationError, match=match):
        target_units_record(*values)


def test_a_new_model_says_what_its_base_would_say(tmp_path):
    # Greedily, after the separator, over units and the end: the base's own logits with its own vectors.
    lm = tiny_lm(seed=3)
    order = UnitVocabulary(tuple(str(unit) for unit in [*range(25, -1, -1)]))
    model = SpeechPromptForSpeechGeneration.from_base(
        lm, vocabulary=order, num_virtual_tokens=2, max_output_tokens=6, separator_init="start"
    )
    ids = torch.tensor([[2, 9, 10, 17, 0]])
    said: list[int] = []
    prompt = model.prompt.states(lm)
    for _ in range(6):
        tokens = torch.tensor([order.encode(said)], dtype=torch.long)
        vectors = lm.get_input_embeddings()(tokens, separator=False)
        logits = lm.lm_head(lm.read_labelled(ids, torch.ones_like(ids), vectors, prompt))[0, -1]
        allowed = torch.cat([logits[2:3], logits[torch.tensor(order.encode(range(26)))]])
        best = int(allowed.argmax())
        if best == 0:
            break
        said.append(best - 1)
    merged = [unit for place, unit in enumerate(said) if not place or said[place - 1] != unit]
    assert said and model.generate_units(input_ids=ids, **PLAIN)[0].tolist() == merged


def test_other_units_begin_as_any_output_vocabulary():
    target = target_units_record(26, {"digest": "other"})
    model = SpeechPromptForSpeechGeneration.from_base(tiny_lm(), target_units=target, num_virtual_tokens=2)
    assert not (model.verbalizer.weight == 1).any()
    more = SpeechPromptForSpeechGeneration.from_base(
        tiny_lm(), target_units=target_units_record(50), num_virtual_tokens=2
    )
    assert more.config.output_vocab_size == 54
    with pytest.raises(LabelError, match="50"):
        SpeechPromptForSpeechGeneration.from_base(
            tiny_lm(), target_units=target_units_record(50), verbalizer="random", num_virtual_tokens=2
        )


def test_answers_survive_saving_on_every_base(base, tmp_path):
    model = speaking_model(base)
    said = answers(model)
    assert len({tuple(row) for row in said}) > 1
    model.save_pretrained(tmp_path)
    for door in (SpeechPromptForSpeechGeneration, AutoModel):
        opened = door.from_pretrained(tmp_path)
        assert type(opened) is SpeechPromptForSpeechGeneration
        assert answers(opened) == said
        assert answers(opened, num_beams=2) == answers(model, num_beams=2)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["format_version"] == 4
    assert values["architectures"] == ["SpeechPromptForSpeechGeneration"]
    assert values["target_units"] == {"num_units": model.lm.num_units, "fingerprint": None, "frame_rate": None}
    assert AutoConfig.from_pretrained(tmp_path).purpose == "speech"
    opened.save_pretrained(tmp_path / "again")
    for name in ("verbalizer.safetensors", "output_tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_other_doors_name_the_class_that_opens_it(adapter, tmp_path):
    for door in (SpeechPromptForAudioClassification, AutoModelForAudioClassification):
        with pytest.raises(AdapterError, match=r"answers with speech, and .*open it with SpeechPromptForSpeechGen"):
            door.from_pretrained(adapter)
    for door in (SpeechPromptForSequenceGeneration, AutoModelForSpeechSeq2Seq):
        with pytest.raises(AdapterError, match=r"answers with speech, and SpeechPromptForSequenceGeneration opens"):
            door.from_pretrained(adapter)
    make_sequence_model(tiny_lm()).save_pretrained(tmp_path / "texts")
    with pytest.raises(AdapterError, match="says sequences, and SpeechPromptForSpeechGeneration opens none of these"):
        SpeechPromptForSpeechGeneration.from_pretrained(tmp_path / "texts", base=tiny_lm())
    with pytest.raises(ConfigurationError, match="the configuration has no target_units"):
        SpeechPromptForSpeechGeneration(SpeechPromptConfig(), tiny_lm())


def test_files_of_other_models_have_no_word_of_speech(tmp_path):
    make_sequence_model(tiny_lm()).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["format_version"] == 3
    of_speech = {"target_units", "speech_task", "prompt_seconds", "vocoder_name_or_path", "vocoder_revision"}
    assert not of_speech & values.keys()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"target_units": 3}, "target_units is 3"),
        ({"target_units": {}}, "num_units of target_units is None"),
        ({"target_units": {"num_units": 10**9}}, "num_units of target_units is 1000000000"),
        ({"target_units": {"num_units": 25}}, "output_vocab_size is 30 with 25 target units"),
        ({"target_units": {"num_units": 26, "fingerprint": "x"}}, "fingerprint of target_units is 'x'"),
        ({"target_units": {"num_units": 26, "frame_rate": -1}}, "frame_rate of target_units is -1"),
        ({"target_units": None}, "'continuation' in a model without target_units"),
        ({"speech_task": "singing"}, "speech_task is 'singing'"),
        ({"prompt_seconds": "3"}, "prompt_seconds in config.json .* is '3'"),
        ({"prompt_seconds": 0}, "prompt_seconds is 0"),
        ({"speech_task": 3}, "speech_task in config.json .* is 3"),
        ({"vocoder_name_or_path": ["x"]}, "vocoder_name_or_path in config.json"),
        ({"vocoder_name_or_path": "x" * 5000}, "vocoder_name_or_path in config.json"),
        ({"format_version": 5}, "format version 5"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_hostile_configurations_are_refused(adapter, values, match):
    change(adapter, **values)
    with pytest.raises(SpeechPromptError, match=match):
        SpeechPromptForSpeechGeneration.from_pretrained(adapter)


def test_an_output_tokenizer_of_words_is_refused(adapter):
    words = build_output_tokenizer([" ".join(f"w{number:02d}" for number in range(26))], "words")
    words.backend_tokenizer.save(str(adapter / "output_tokenizer.json"))
    change(adapter, file_sha256=None)
    with pytest.raises(AdapterError, match=r"token 4 of the output tokenizer is 'w00', not unit 0"):
        SpeechPromptForSpeechGeneration.from_pretrained(adapter)


# Sound


def test_sound_of_a_batch_is_that_of_each_row_alone(saved):
    model = SpeechPromptForSpeechGeneration.from_pretrained(saved / "adapter").attach_vocoder(
        tiny_vocoder(vocab_size=26)
    )
    ids, mask = pad(UTTERANCES)
    speech = model.generate_speech(input_ids=ids, attention_mask=mask, **PLAIN)
    assert speech.sampling_rate == 16000
    assert [row.tolist() for row in speech.units] == answers(model)
    for index, utterance in enumerate(UTTERANCES):
        alone = model.generate_speech(input_ids=torch.tensor([utterance]), **PLAIN)
        assert torch.equal(alone.durations[0], speech.durations[index])
        assert len(speech.row(index)) == 10 * int(speech.durations[index].sum())
        torch.testing.assert_close(alone.row(0), speech.row(index), atol=1e-5, rtol=1e-4)


def test_an_answer_without_units_is_silent():
    speech = speak_units(tiny_vocoder(), [[], [3, 4], []])
    assert speech.waveform_lengths.tolist()[::2] == [0, 0]
    assert len(speech.row(1)) > 0 and len(speech.row(0)) == 0
    assert speak_units(tiny_vocoder(), []).waveform.shape[0] == 0
    assert speak_units(tiny_vocoder(), [[]]).waveform.shape == (1, 0)


@pytest.mark.parametrize("tempo", [0.5, 0.8, 1.0, 1.5, 2.0])
def test_tempo_is_that_of_durations(tempo):
    units, frames = [[3, 4, 5, 6]], [[4, 8, 1, 3]]
    speech = speak_units(tiny_vocoder(), units, frames, tempo=tempo)
    total = int(speech.durations[0].sum())
    assert abs(total - 16 / tempo) <= 1
    assert int(speech.durations[0].min()) >= 1
    assert len(speech.row(0)) == 10 * total
    exact = UnitHifiGan.forward(tiny_vocoder(), torch.tensor(units), durations=speech.durations[0][None])
    assert torch.equal(exact.waveform[0], speech.row(0))


def test_no_vocoder_is_opened_unasked(adapter):
    model = SpeechPromptForSpeechGeneration.from_pretrained(adapter)
    assert model.vocoder is None
    with pytest.raises(AdapterError, match=r"belongs to them is org/vocoder .*load_vocoder\('org/vocoder'\)"):
        model.generate_speech(input_ids=torch.tensor([[2, 9, 0]]))
    model.config.vocoder_name_or_path = None
    with pytest.raises(AdapterError, match=r"no vocoder is attached that makes units sound \(.*load_vocoder\('DIR"):
        model.speak([[1]])


def test_vocoders_of_other_units_are_refused(saved):
    model = SpeechPromptForSpeechGeneration.from_pretrained(saved / "adapter")
    with pytest.raises(ConfigurationError, match=r"the vocoder says 11 units, the target vocabulary of .* has 26"):
        model.attach_vocoder(tiny_vocoder())
    with pytest.raises(AdapterError, match="a Linear makes no sound of units"):
        model.attach_vocoder(torch.nn.Linear(1, 1))
    model.config.target_units["fingerprint"] = {"digest": "a" * 64}
    vocoder = tiny_vocoder(vocab_size=26)
    model.attach_vocoder(vocoder)
    vocoder.config.fingerprint = {"digest": "b" * 64}
    with pytest.raises(FingerprintMismatchError, match="the vocoder says units bbbbbbbbbbbbbbbb, those of"):
        model.attach_vocoder(vocoder)
    vocoder.config.fingerprint = {"digest": "a" * 64}
    model.config.target_units["frame_rate"] = 50.0
    with pytest.raises(ConfigurationError, match=r"the vocoder says 1600 frames a second, .* has 50"):
        model.attach_vocoder(vocoder)
    model.config.target_units["frame_rate"] = 1600.4
    assert model.attach_vocoder(vocoder).vocoder is vocoder


def test_durations_that_do_not_fit():
    with pytest.raises(UnitError, match="2 rows of units came with 1 rows of durations"):
        speak_units(tiny_vocoder(), [[1], [2]], [[1]])
    with pytest.raises(UnitError, match="2 units came with 1 durations"):
        speak_units(tiny_vocoder(), [[1, 2]], [[1]])
    with pytest.raises(ConfigurationError, match="tempo is 0"):
        speak_units(tiny_vocoder(), [[1, 2]], tempo=0)


def test_the_voice_of_each_row():
    vocoder = tiny_vocoder(num_speakers=3)
    both = speak_units(vocoder, [[1, 2], [], [1, 2]], [[3, 3], [], [3, 3]], speaker_ids=torch.tensor([0, 1, 2]))
    alone = speak_units(vocoder, [[1, 2]], [[3, 3]], speaker_ids=torch.tensor([2]))
    torch.testing.assert_close(both.row(2), alone.row(0))
    assert not torch.allclose(both.row(0), both.row(2))
    with pytest.raises(ConfigurationError, match="3 voices, and none was named"):
        speak_units(vocoder, [[1, 2]])


def test_vocoders_open_from_a_folder_and_nothing_else_does(tmp_path):
    folder = save_vocoder(tmp_path / "vocoder", 26)
    vocoder = load_vocoder(folder)
    assert not vocoder.training and not any(each.requires_grad for each in vocoder.parameters())
    same = tiny_vocoder(vocab_size=26)
    assert torch.equal(speak_units(vocoder, [[1, 2]]).waveform, speak_units(same, [[1, 2]]).waveform)
    tiny_lm().save_pretrained(tmp_path / "lm")
    with pytest.raises(AdapterError, match="model of type 'gslm', which makes no sound of units"):
        load_vocoder(tmp_path / "lm")
    with pytest.raises(AdapterError, match=r"there is no folder .*absent"):
        load_vocoder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterError, match="cannot be loaded"):
        load_vocoder(tmp_path / "empty")
    with pytest.raises(AdapterError, match="not in the cache"):
        load_vocoder("org/vocoder", local_files_only=True)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"vocab_size": 10**7}, r"unit_embedding.weight .* has shape \(26, 6\), its config.json claims"),
        ({"upsample_initial_channel": 2**22}, "has shape .*, its config.json claims"),
        ({"upsample_rates": "x"}, "describes no vocoder|cannot be loaded|upsample"),
        ({"model_type": "nothing"}, "type 'nothing', which makes no sound"),
        ({"model_type": ["unit_vocos"]}, "makes no sound"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "type 'evil', which makes no sound"),
        ({"configuration_files": ["config.0.0.0.json"]}, None),
        ({"upsample_rates": [1] * 10**5, "upsample_kernel_sizes": [1] * 10**5}, "cannot be halved"),
        ({"resblock_dilation_sizes": [[1, 3, 5], [1] * 10**5]}, "make 200006 residual layers"),
        ({"resblock_dilation_sizes": [[1, 3, 5], [1, 2, 10**9]]}, r"resblock_dilation_sizes has \[1, 2, 1000000000\]"),
        ({"dtype": "evil"}, "describes no vocoder"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_hostile_vocoders_are_refused(tmp_path, values, match):
    folder = save_vocoder(tmp_path, 26)
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    (folder / "config.0.0.0.json").write_text('{"model_type": "llama", "num_hidden_layers": 2000}')
    change(folder, **values)
    if match is None:  # it leads elsewhere, where nobody looks
        assert type(load_vocoder(folder)) is UnitHifiGan
        return
    with pytest.raises(SpeechPromptError, match=match):
        load_vocoder(folder)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_layers": 10**9}, "num_layers is 1000000000 .*to 100"),
        ({"num_fine_layers": 101}, "num_fine_layers is 101 .*to 100"),
        ({"vocab_size": 10**7}, r"unit_embedding.weight .* has shape \(11, 6\), its config.json claims"),
        ({"num_layers": "x"}, "num_layers is 'x'"),
        ({"sampling_rate": 10**30}, "sampling_rate is 1000"),
        ({"model_type": "llama", "num_hidden_layers": 10**9}, "type 'llama', which makes no sound of units"),
        ({"model_type": "qwen2", "num_hidden_layers": 10**9}, "type 'qwen2', which makes no sound of units"),
    ],
    ids=str,
)
def test_hostile_small_vocoders_are_refused(tmp_path, values, match, monkeypatch):
    tiny_vocos().save_pretrained(tmp_path)
    change(tmp_path, **values)
    if "vocab_size" not in values:
        monkeypatch.setattr(AutoModel, "from_config", lambda *_, **__: pytest.fail("a model of the claimed sizes"))
    with pytest.raises(SpeechPromptError, match=match):
        load_vocoder(tmp_path)


def test_vocoders_compute_in_float32_whatever_their_file_holds(tmp_path):
    tiny_vocoder().half().save_pretrained(tmp_path)
    assert load_vocoder(tmp_path).dtype == torch.float32


FRESH = """
import json, sys, torch
from transformers import AutoModel
import speechprompt_hf
from speechprompt_hf.modeling.unit_speech import load_vocoder
model = AutoModel.from_pretrained(sys.argv[1]).attach_vocoder(load_vocoder(sys.argv[2]))
speech = model.generate_speech(input_ids=torch.tensor(json.loads(sys.argv[3])), do_sample=False)
print(json.dumps([type(model).__name__, speech.units[0].tolist(), speech.row(0).double().sum().item()]))
"""


@pytest.mark.slow
def test_a_fresh_process_says_the_same(base, tmp_path, project_root):
    model = speaking_model(base)
    model.save_pretrained(tmp_path / "adapter")
    save_vocoder(tmp_path / "vocoder", model.num_target_units)
    utterance = [list(UTTERANCES[0])]
    model.attach_vocoder(load_vocoder(tmp_path / "vocoder"))
    speech = model.generate_speech(input_ids=torch.tensor(utterance), **PLAIN)
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "adapter"), str(tmp_path / "vocoder"), json.dumps(utterance)],
        capture_output=True,
        text=True,
        cwd=project_root,
        check=True,
        env={**os.environ, "PYTHONPATH": str(project_root)},
    )
    name, units, total = json.loads(result.stdout.splitlines()[-1])
    assert (name, units) == ("SpeechPromptForSpeechGeneration", speech.units[0].tolist())
    assert abs(total - speech.row(0).double().sum().item()) < 1e-4
