"""A vocoder learns tones; a stopped run goes on as if it had not been; what is wrong is said."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from speechprompt_hf import UnitHifiGan, UnitVocos
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.pretraining.checkpoints import reports_of_last_step
from speechprompt_hf.pretraining.processes import Processes
from speechprompt_hf.pretraining.sharding import Sharding
from speechprompt_hf.vocoding.aligned_speech import SpeechBatch
from speechprompt_hf.vocoding.vocoder_card import write_vocoder_card
from speechprompt_hf.vocoding.vocoder_settings import VocoderTrainingConfig
from speechprompt_hf.vocoding.vocoder_training import _Run, new_vocoder, save_vocoder, train_vocoder, validate_vocoder
from tests.fixtures.aligned_speech import HOP, RATE, TONES, write_tones

FINGERPRINT = {"digest": "of these units"}
SMALL = {"unit_embed_dim": 8, "duration_predictor_hidden_size": 8}
VOCOS = {**SMALL, "hidden_size": 24, "intermediate_size": 32, "num_layers": 1, "num_fine_layers": 1, "kernel_size": 3}
HIFIGAN = {**SMALL, "upsample_initial_channel": 16, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]]}
ALONE = Processes(0, 1, torch.device("cpu"))


def settings(**fields):
    given = {
        "batch_size": 4,
        "segment_frames": 20,
        "discriminator_frames": 8,
        "adversarial_start": 10**6,
        "periods": (2, 3),
        "num_scales": 1,
        "spectrum_windows": (64,),
        "discriminator_width": 0.03,
        "mel_windows": (64, 128),
        "learning_rate": 5e-3,
        "checkpoint_every": 5,
        "validate_every": 10**6,
        "model": VOCOS,
    }
    return VocoderTrainingConfig(**{**given, **fields})


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones") / "speech")


def train(speech, output, steps, config=None, **options):
    given = {"fingerprint": FINGERPRINT, "num_units": TONES, "show_progress": False, "processes": ALONE, **options}
    return train_vocoder(speech, output, steps, config or settings(), **given)


def log(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_a_vocoder_learns_tones_and_durations(speech, tmp_path):
    held_out = write_tones(tmp_path / "held out", seed=5, lengths=(40, 40))
    untrained = validate_vocoder(new_vocoder(settings(), speech, FINGERPRINT, TONES), held_out)
    reports = []
    vocoder = train(speech, tmp_path / "out", 150, validation=held_out, on_report=reports.append)
    assert type(vocoder) is UnitVocos and not vocoder.training
    last = [each for each in log(tmp_path / "out") if "validation_mel" in each][-1]
    assert last["validation_mel"] < 0.5 * untrained["validation_mel"]
    assert reports == log(tmp_path / "out") and last["step"] == 150
    # What it says of a unit has the unit's pitch.
    with torch.no_grad():
        made = vocoder(torch.tensor([[2] * 20]), predict_durations=False).waveform[0].numpy()
    spectrum = np.abs(np.fft.rfft(made[4 * HOP : -4 * HOP]))
    assert spectrum.argmax() * RATE / (len(made) - 8 * HOP) == pytest.approx(300, abs=20)
    opened = AutoModel.from_pretrained(tmp_path / "out")
    assert type(opened) is UnitVocos and opened.config.fingerprint == FINGERPRINT
    with torch.no_grad():
        again = opened(torch.tensor([[2] * 20]), predict_durations=False).waveform[0].numpy()
    assert np.abs(again - made).max() < 0.02


@pytest.mark.parametrize(
    ("architecture", "sizes", "kind"), [("vocos", VOCOS, UnitVocos), ("hifigan", HIFIGAN, UnitHifiGan)]
)
def test_discriminators_take_part_from_their_start(speech, tmp_path, architecture, sizes, kind):
    config = settings(architecture=architecture, model=sizes, adversarial_start=2, learning_rate=1e-3)
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    vocoder = new_vocoder(config, speech, FINGERPRINT, TONES)
    run = _Run(vocoder, config, run_folder, {}, ALONE, None)
    before = {name: value.clone() for name, value in run.discriminators.state_dict().items()}
    names = []
    for step in range(4):
        run.state.step = step
        names.append(set(run.train_step(speech)))
        changed = [
            name for name, value in run.discriminators.state_dict().items() if not torch.equal(value, before[name])
        ]
        assert bool(changed) == (step >= 2)
    assert names[0] == names[1] == {"mel", "duration"}
    assert names[2] == names[3] == {"mel", "duration", "discriminators", "adversarial", "features"}
    assert type(vocoder) is kind and all(value.isfinite().all() for value in vocoder.state_dict().values())


@pytest.mark.parametrize(("architecture", "sizes"), [("vocos", VOCOS), ("hifigan", HIFIGAN)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(speech, tmp_path, architecture, sizes):
    config = settings(architecture=architecture, model=sizes, adversarial_start=3, learning_rate=1e-3)
    whole = train(speech, tmp_path / "whole", 12, config)
    train(speech, tmp_path / "parts", 5, config)
    parts = train(speech, tmp_path / "parts", 12, config)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    logs = [log(tmp_path / name)[-1] for name in ("whole", "parts")]
    assert logs[0]["step"] == logs[1]["step"] == 12 and logs[0].keys() == logs[1].keys()
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts")]
    for name, value in states[0]["discriminators"].items():
        assert torch.equal(value, states[1]["discriminators"][name]), name


def test_a_killed_run_goes_on_from_its_last_checkpoint(speech, tmp_path, monkeypatch):
    config = settings(adversarial_start=3, learning_rate=1e-3)
    whole = train(speech, tmp_path / "whole", 8, config)
    step = _Run.train_step

    def killed(run, *arguments):
        if run.state.step == 7:
            raise KeyboardInterrupt
        return step(run, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Run, "train_step", killed)
        train(speech, tmp_path / "killed", 8, config)
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["step"] == 5
    found = train(speech, tmp_path / "killed", 8, config)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in whole.state_dict().items())


def test_other_settings_speech_or_units_are_refused(speech, tmp_path):
    train(speech, tmp_path / "out", 1)
    with pytest.raises(ConfigurationError, match=r"other settings: learning_rate \(was 0.005, is 0.1\)"):
        train(speech, tmp_path / "out", 2, settings(learning_rate=0.1))
    with pytest.raises(ConfigurationError, match="other data: speech"):
        train(write_tones(tmp_path / "other", seed=9), tmp_path / "out", 2)
    with pytest.raises(ConfigurationError, match="other data: fingerprint of the units"):
        train(speech, tmp_path / "out", 2, fingerprint={"digest": "others"})


def test_snapshots_are_kept(speech, tmp_path):
    train(speech, tmp_path / "out", 4, settings(snapshot_every=2))
    folders = sorted(each.name for each in (tmp_path / "out" / "snapshots").iterdir())
    assert folders == ["step-000002", "step-000004"]
    assert type(AutoModel.from_pretrained(tmp_path / "out" / "snapshots" / folders[0])) is UnitVocos


def test_two_processes_share_an_update(speech, tmp_path):
    """The mean of both shares' gradients is the whole batch's."""
    config = settings(model={**VOCOS, "duration_predictor_dropout": 0.0}, adversarial_start=0)
    gradients = []
    for processes in (ALONE, *(Shared(rank) for rank in (0, 1))):
        folder = tmp_path / f"{processes.size}-{processes.rank}"
        folder.mkdir()
        run = _Run(new_vocoder(config, speech, FINGERPRINT, TONES), config, folder, {}, processes, None)
        run._train_discriminators = lambda *_: {}  # they are updated before: compare the vocoder's alone
        run.train_step(speech)
        gradients.append({name: each.grad for name, each in run.vocoder.named_parameters()})
    for name, whole in gradients[0].items():
        mean = (gradients[1][name] + gradients[2][name]) / 2
        torch.testing.assert_close(mean, whole, rtol=2e-3, atol=2e-4 * float(whole.abs().max() + 1e-6), msg=name)


class Shared(Processes):
    """One of two processes that never meet."""

    def __init__(self, rank):
        super().__init__(rank, 2, torch.device("cpu"))

    def wrap(self, model):
        return model

    def sum(self, value):
        return 2 * value


def test_vocoders_of_several_voices_learn_them(tmp_path):
    speech = write_tones(tmp_path / "speech", speakers=("x", "y"))
    vocoder = train(speech, tmp_path / "out", 2)
    assert vocoder.config.num_speakers == 2
    assert set(validate_vocoder(vocoder, speech)) == {"validation_mel", "validation_duration"}


def test_a_vocoder_may_have_no_durations(speech, tmp_path):
    config = settings(model={**VOCOS, "duration_predictor_hidden_size": 0})
    vocoder = train(speech, tmp_path / "out", 2, config)
    assert vocoder.duration_predictor is None and set(validate_vocoder(vocoder, speech)) == {"validation_mel"}


def test_losses_that_are_not_finite_end_the_run(speech, tmp_path, monkeypatch):
    draw = type(speech).draw

    def broken(self, *arguments, **options):
        batch = draw(self, *arguments, **options)
        return SpeechBatch(**{**batch.__dict__, "waveform": batch.waveform * float("nan")})

    monkeypatch.setattr(type(speech), "draw", broken)
    with pytest.raises(ConfigurationError, match="the losses of update 1 are not finite: mel nan") as caught:
        train(speech, tmp_path / "out", 2)
    assert not caught.value.is_mistake and not (tmp_path / "out" / "checkpoint.pt").exists()


def test_impossible_processes_are_refused(speech, tmp_path):
    with pytest.raises(ConfigurationError, match="4 segments cannot be shared by 3 processes"):
        train(speech, tmp_path / "out", 1, processes=Processes(0, 3, torch.device("cpu")))
    sharded = replace(ALONE, sharding=object.__new__(Sharding))
    with pytest.raises(ConfigurationError, match="does not shard parameters"):
        train(speech, tmp_path / "out", 1, processes=sharded)


def test_sizes_of_another_hop_are_refused(speech):
    config = settings(model={**VOCOS, "hop_length": 32, "n_fft": 128, "upsample_rate": 1})
    with pytest.raises(ConfigurationError, match="makes 32 samples of a frame, and the units have 16"):
        new_vocoder(config, speech, FINGERPRINT, TONES)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": "wavenet"}, "architecture is 'wavenet'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"segment_frames": 0}, "segment_frames is 0"),
        ({"adversarial_start": -1}, "adversarial_start is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"decay_per_1000": -1.0}, "decay_per_1000 is -1.0"),
        ({"mel_windows": ()}, r"mel_windows is \(\)"),
        ({"mel_windows": (32,)}, r"mel_windows is \(32,\)"),
        ({"periods": (), "num_scales": 0, "spectrum_windows": ()}, "there is no discriminator"),
    ],
)
def test_unusable_settings_are_refused(fields, words):
    with pytest.raises(ConfigurationError, match=words):
        settings(**fields)


def test_rates_rise_and_shrink():
    config = settings(learning_rate=1.0, decay_per_1000=0.5, warm_up_steps=10, discriminator_learning_rate=0.1)
    assert config.rates(0) == (pytest.approx(0.1), 0.1)
    assert config.rates(2000) == (pytest.approx(0.25), pytest.approx(0.025))
    assert math.isclose(settings(learning_rate=3.0).rates(0)[1], 3.0)


def test_saving_leaves_the_vocoder_as_it_is(speech, tmp_path):
    vocoder = new_vocoder(settings(), speech, FINGERPRINT, TONES)
    save_vocoder(vocoder, tmp_path)
    assert vocoder.dtype == torch.float32 and vocoder.training
    assert (tmp_path / "model.safetensors").stat().st_size < 2.2 * vocoder.num_parameters() + 20_000


def test_both_architectures_open_in_float32(speech, tmp_path):
    for architecture, sizes in (("vocos", VOCOS), ("hifigan", HIFIGAN)):
        vocoder = new_vocoder(settings(architecture=architecture, model=sizes), speech, FINGERPRINT, TONES)
        save_vocoder(vocoder, tmp_path / architecture)
        assert AutoModel.from_pretrained(tmp_path / architecture).dtype == torch.float32


def test_a_run_says_its_last_step(speech, tmp_path):
    train(speech, tmp_path / "out", 2, validation=speech, config=settings(validate_every=1))
    with (tmp_path / "out" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "validation_mel": 9.0}\n{"step": 2, "valid')
    step, reports = reports_of_last_step(tmp_path / "out")
    last = [each for each in log_lines(tmp_path / "out") if "validation_mel" in each and each["step"] == 2][-1]
    assert step == 2 and reports["validation_mel"] == last["validation_mel"] and "mel" in reports
    (tmp_path / "out" / "log.jsonl").unlink()
    assert reports_of_last_step(tmp_path / "out") == (2, {})


def log_lines(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()[:-1]]


@pytest.mark.parametrize(
    ("start", "words"),
    [(9, "; the mel loss alone."), (8, "the first 8 of them, then HiFi-GAN's"), (0, "; HiFi-GAN's losses.")],
)
def test_the_card_names_losses_that_took_part(speech, tmp_path, start, words):
    config = settings(adversarial_start=start)
    vocoder = new_vocoder(config, speech, FINGERPRINT, TONES)
    path = write_vocoder_card(tmp_path, vocoder, config, speech, base="a/base", num_steps=9, report={})
    assert words in path.read_text()


def test_the_card_names_units_speech_and_what_was_measured(speech, tmp_path):
    config = settings(adversarial_start=3)
    vocoder = new_vocoder(config, speech, FINGERPRINT, TONES)
    report = {"validation_mel": 0.5, "validation_duration": 1.25}
    options = {"base": "a/base", "num_steps": 9, "report": report, "license": "apache-2.0"}
    text = write_vocoder_card(tmp_path, vocoder, config, speech, **options).read_text()
    assert text.startswith("---\nlicense: apache-2.0\n") and "`of these units`" in text
    assert "9 updates on 0.0 minutes" in text and "first 3 of them" in text
    assert "log mel spectra 0.500, of predicted durations 1.250 frames." in text
