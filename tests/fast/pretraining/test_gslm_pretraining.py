import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError, DatasetError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling.modeling_gslm import GSLMForCausalLM
from speechprompt_hf.pretraining.checkpoints import ResumableRun, completed_settings
from speechprompt_hf.pretraining.distillation import DistillationConfig
from speechprompt_hf.pretraining.gslm_pretraining import NextUnit, PretrainingConfig, evaluate_loss, pretrain_gslm
from speechprompt_hf.pretraining.rows import (
    collate_rows,
    disturb,
    make_batches,
    make_rows,
)

VOCABULARY = UnitVocabulary.from_num_units(10)


def counting(num_rows=60, seed=0):
    """Units that count upwards: the next one is certain after the first."""
    generator = np.random.default_rng(seed)
    return [((generator.integers(10) + np.arange(generator.integers(4, 15))) % 10).tolist() for _ in range(num_rows)]


def settings(**changes):
    model = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    values = {"num_steps": 12, "tokens_per_step": 200, "warm_up_steps": 3, "checkpoint_every": 5, "bf16": False}
    return PretrainingConfig(**{**values, "validate_every": 100, "model": model, **changes})


def test_rows_follow_fairseq():
    assert [row.tolist() for row in make_rows([[5, 1], [3]], VOCABULARY, max_tokens=8)] == [[2, 9, 5, 2], [2, 7, 2]]


def test_long_utterances_are_cut_without_loss():
    units = [index % 10 for index in range(23)]
    rows = make_rows([units], VOCABULARY, max_tokens=8)
    assert all(len(row) <= 8 and row[0] == 2 for row in rows)
    assert [token for row in rows for token in row[1:]] == [*VOCABULARY.encode(units), 2]


def test_stream_rows_join_utterances():
    rows = make_rows([[1, 2, 3], [4, 5], [6]], VOCABULARY, max_tokens=5, break_mode="stream")
    assert [row.tolist() for row in rows] == [[2, 5, 6, 7, 2], [2, 8, 9, 2, 10]]


def test_stream_keeps_every_predicted_token_but_a_lone_last_one():
    sequences = counting(7)
    rows = make_rows(sequences, VOCABULARY, max_tokens=6, break_mode="stream")
    stream = [token for units in sequences for token in [*VOCABULARY.encode(units), 2]]
    predicted = [int(token) for row in rows for token in row[1:]]
    assert predicted == stream[: len(predicted)] and len(stream) - len(predicted) <= 1


def test_an_empty_corpus_is_refused():
    with pytest.raises(DatasetError):
        make_rows([[], []], VOCABULARY, max_tokens=8)


def test_batches_cover_every_row_once_within_the_bound():
    rows = make_rows(counting(100), VOCABULARY, max_tokens=50)
    batches = make_batches(rows, 120, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(rows)))
    for batch in batches:
        longest = max(len(rows[index]) for index in batch)
        assert longest * len(batch) <= 120 + 4 * len(batch)


def test_padding_carries_no_label():
    batch = collate_rows([np.array([2, 4, 2]), np.array([2, 4, 5, 6, 2])])
    assert batch["labels"].tolist()[0] == [2, 4, 2, -100, -100]
    assert batch["attention_mask"].sum(1).tolist() == [3, 5]


def test_loss_is_the_mean_over_tokens_whatever_the_batches():
    torch.manual_seed(0)
    model = pretrain_gslm_model()
    rows = make_rows(counting(20), VOCABULARY, max_tokens=50)
    together = evaluate_loss(model, rows, tokens_per_batch=10_000)
    alone = evaluate_loss(model, rows, tokens_per_batch=1)
    assert together == pytest.approx(alone, rel=1e-5)


def pretrain_gslm_model():
    from speechprompt_hf.modeling.configuration_gslm import GSLMConfig

    return GSLMForCausalLM(GSLMConfig(vocab_size=len(VOCABULARY), **settings().model))


def test_it_learns_saves_and_carries_the_fingerprint(tmp_path):
    reports = []
    model = pretrain_gslm(
        counting(),
        tmp_path,
        settings(num_steps=80, learning_rate=1e-2, validate_every=20),
        vocabulary=VOCABULARY,
        validation=counting(seed=1),
        fingerprint={"digest": "abc"},
        show_progress=False,
        on_report=reports.append,
    )
    losses = [report["validation_loss"] for report in reports if "validation_loss" in report]
    assert losses[0] > 1.3 * losses[-1] and losses[-1] < 1.2  # uniform over ten units: 2.3
    loaded = GSLMForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert loaded.config.fingerprint == {"digest": "abc"}
    rows = make_rows(counting(seed=1), VOCABULARY, max_tokens=50)
    assert evaluate_loss(loaded, rows) == pytest.approx(evaluate_loss(model, rows), abs=0.01)


@pytest.mark.parametrize("noise", [{}, {"replaced_units": 0.2, "left_out_units": 0.2}])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, noise):
    arguments = {"vocabulary": VOCABULARY, "show_progress": False}
    whole = pretrain_gslm(counting(), tmp_path / "whole", settings(**noise), **arguments)

    class StoppedError(Exception):
        pass

    def stop(report):
        if "validation_loss" in report and report["step"] == 7:
            raise StoppedError

    with pytest.raises(StoppedError):
        pretrain_gslm(
            counting(),
            tmp_path / "cut",
            settings(validate_every=7, **noise),
            validation=counting(seed=1),
            on_report=stop,
            **arguments,
        )
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    resumed = pretrain_gslm(counting(), tmp_path / "cut", settings(validate_every=7, **noise), **arguments)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=0, rtol=0)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    rows, vocabulary = counting(), UnitVocabulary.from_num_units(10)
    options = {"vocabulary": vocabulary, "show_progress": False}
    pretrain_gslm(rows, tmp_path, settings(num_steps=2), **options, fingerprint={"digest": "a"})
    with pytest.raises(ConfigurationError, match="other data: training rows"):
        pretrain_gslm(counting(seed=1), tmp_path, settings(num_steps=2), **options, fingerprint={"digest": "a"})
    with pytest.raises(ConfigurationError, match="other data: fingerprint of the units"):
        pretrain_gslm(rows, tmp_path, settings(num_steps=2), **options, fingerprint={"digest": "b"})
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del content["identity"]  # as versions wrote it that did not know it
    torch.save(content, tmp_path / "checkpoint.pt")
    pretrain_gslm(counting(seed=1), tmp_path, settings(num_steps=2), **options)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    pretrain_gslm(counting(), tmp_path, settings(), vocabulary=VOCABULARY, show_progress=False)
    with pytest.raises(ConfigurationError, match=r"other settings: seed \(was 0, is 5\)"):
        pretrain_gslm(counting(), tmp_path, settings(seed=5), vocabulary=VOCABULARY, show_progress=False)


def test_disturbed_rows_keep_what_is_predicted():
    rows = [np.array([2, *range(4, 54), 2]), np.array([2, 9, 2])]
    generator = np.random.default_rng(0)
    read, predicted = disturb(rows, generator, (4, 104), replaced=0.4, left_out=0.3)
    for row, one_read, one_predicted in zip(rows, read, predicted, strict=True):
        assert len(one_read) == len(one_predicted) >= 3
        assert one_read[0] == one_read[-1] == 2 and one_predicted[0] == one_predicted[-1] == 2
        kept = iter(row)
        assert all(unit in kept for unit in one_predicted)  # a subsequence, in order
        assert ((one_read[1:-1] >= 4) & (one_read[1:-1] < 104)).all()
    assert 25 <= len(read[0]) - 2 <= 45
    assert 5 <= (read[0] != predicted[0]).sum() <= 25


def test_rows_without_disturbance_stay():
    rows = [np.array([2, 5, 6, 2])]
    read, predicted = disturb(rows, np.random.default_rng(0), (4, 104), replaced=0.0, left_out=0.0)
    assert (read[0] == rows[0]).all() and (predicted[0] == rows[0]).all()


def test_all_units_are_never_left_out():
    rows = [np.array([2, 5, 2])] * 50
    _, predicted = disturb(rows, np.random.default_rng(0), (4, 104), replaced=0.0, left_out=0.99)
    assert all(len(row) == 3 for row in predicted)


def test_pretraining_on_disturbed_units_differs(tmp_path):
    options = {"vocabulary": VOCABULARY, "show_progress": False}
    noisy = pretrain_gslm(counting(), tmp_path / "noisy", settings(replaced_units=0.2), **options)
    plain = pretrain_gslm(counting(), tmp_path / "plain", settings(), **options)
    assert not torch.equal(noisy.lm_head.weight, plain.lm_head.weight)


def test_a_checkpoint_of_a_version_with_fewer_settings_goes_on(tmp_path):
    options = {"vocabulary": VOCABULARY, "show_progress": False}
    pretrain_gslm(counting(), tmp_path, settings(num_steps=2), **options)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    recorded = json.loads(content["settings"])
    del recorded["left_out_units"], recorded["replaced_units"]
    torch.save({**content, "settings": json.dumps(recorded)}, tmp_path / "checkpoint.pt")
    pretrain_gslm(counting(), tmp_path, settings(num_steps=2), **options)
    with pytest.raises(ConfigurationError, match=r"left_out_units \(was 0.0, is 0.1\)"):
        pretrain_gslm(counting(), tmp_path, settings(num_steps=2, left_out_units=0.1), **options)


def test_new_settings_within_settings_get_their_defaults_too():
    config = DistillationConfig()
    now = json.loads(json.dumps(asdict(config)))
    recorded = json.loads(json.dumps(now))
    del recorded["augmentation"]["level_decibels"], recorded["student"]
    assert completed_settings(recorded, config) == now
    recorded["augmentation"]["noise_probability"] = 0.1
    assert completed_settings(recorded, replace(config, seed=3))["augmentation"]["noise_probability"] == 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_run_that_began_on_a_gpu_goes_on_without_one(tmp_path, monkeypatch):
    options = {"vocabulary": VOCABULARY, "show_progress": False}
    whole = pretrain_gslm(counting(), tmp_path / "whole", settings(num_steps=7, checkpoint_every=4), **options)

    class StoppedError(Exception):
        pass

    def stop(report):
        raise StoppedError

    cut = settings(num_steps=7, checkpoint_every=4, validate_every=5)
    with pytest.raises(StoppedError):
        pretrain_gslm(counting(), tmp_path / "cut", cut, validation=counting(seed=1), on_report=stop, **options)
    content = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    with monkeypatch.context() as patch:
        # As torch writes it of tensors on a GPU.
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(content, tmp_path / "cut" / "checkpoint.pt")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    resumed = pretrain_gslm(counting(), tmp_path / "cut", cut, **options)
    torch.testing.assert_close(resumed.lm_head.weight, whole.lm_head.weight, atol=0, rtol=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_device_that_is_not_here_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigurationError, match="'cuda' cannot be used here"):
        pretrain_gslm(counting(), tmp_path / "o", settings(), vocabulary=VOCABULARY, device="cuda")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["replaced_units", "left_out_units"])
@pytest.mark.parametrize("share", [-0.1, 1.0, 20, float("nan")])
def test_shares_of_units_are_shares(name, share):
    with pytest.raises(ConfigurationError, match=f"{name} is {share}"):
        PretrainingConfig(**{name: share})


@pytest.mark.parametrize("name", ["num_steps", "tokens_per_step", "max_tokens", "checkpoint_every", "validate_every"])
def test_numbers_that_are_too_low_are_refused(name):
    with pytest.raises(ConfigurationError, match=rf"{name} is 0 \(give [13] or more"):
        PretrainingConfig(**{name: 0})
    if name.endswith("every"):
        with pytest.raises(ConfigurationError, match=f"{name} is 0"):
            DistillationConfig(**{name: 0})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"hello", None])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    options = {"vocabulary": VOCABULARY, "show_progress": False}
    pretrain_gslm(counting(), tmp_path, settings(num_steps=1), **options)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(ConfigurationError, match=r"checkpoint .*checkpoint.pt cannot be read: .*delete it") as caught:
        pretrain_gslm(counting(), tmp_path, settings(num_steps=1), **options)
    assert not caught.value.is_mistake
    torch.save([1, 2], path)
    with pytest.raises(ConfigurationError, match="is no checkpoint of a pretraining"):
        pretrain_gslm(counting(), tmp_path, settings(num_steps=1), **options)


def test_an_epoch_is_planned_once_and_logs_go_on_after_a_stop(tmp_path, monkeypatch):
    """Four batches an epoch: a resumed run plans the epochs up to its own once more, and no other twice."""
    planned = []
    plan = NextUnit.epoch

    def epoch(self, rows, generator):
        planned.append(generator.bit_generator.seed_seq.entropy)
        return plan(self, rows, generator)

    monkeypatch.setattr(NextUnit, "epoch", epoch)
    options = {"vocabulary": VOCABULARY, "show_progress": False}
    logs: dict[str, list] = {"whole": [], "cut": []}
    pretrain_gslm(counting(), tmp_path / "whole", settings(num_steps=50), on_report=logs["whole"].append, **options)
    assert len(planned) > 5 and planned == [(0, number) for number in range(len(planned))]
    num_planned = len(planned)

    class StoppedError(Exception):
        pass

    saved = []

    def stop(run):
        save(run)
        saved.append(run.step)
        if run.step == 30:
            raise StoppedError

    save = ResumableRun.save
    monkeypatch.setattr(ResumableRun, "save", stop)
    with pytest.raises(StoppedError):
        pretrain_gslm(counting(), tmp_path / "cut", settings(num_steps=50), **options)
    planned.clear()
    monkeypatch.setattr(ResumableRun, "save", save)
    pretrain_gslm(counting(), tmp_path / "cut", settings(num_steps=50), on_report=logs["cut"].append, **options)
    assert planned == [(0, number) for number in range(num_planned)]
    one, other = ([(entry["step"], entry["loss"]) for entry in log] for log in logs.values())
    assert one == other and len(one) == 1
