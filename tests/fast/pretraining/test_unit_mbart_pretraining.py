import json

import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import ConfigurationError, DatasetError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.modeling.base_loading import load_base
from speechprompt_hf.modeling.configuration_unit_mbart import UnitMBartConfig
from speechprompt_hf.modeling.modeling_unit_mbart import UnitMBartForConditionalGeneration
from speechprompt_hf.pretraining.unit_mbart_pretraining import (
    Infilling,
    UnitMBartPretrainingConfig,
    make_language_rows,
    pretrain_unit_mbart,
)

VOCABULARY = UnitVocabulary.from_num_units(10)
SIZES = {
    "hidden_size": 32,
    "num_encoder_layers": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "dropout": 0.0,
}


def counting(num_rows=60, seed=0):
    """Units that count upwards: what is masked follows from its neighbours."""
    generator = np.random.default_rng(seed)
    return [((generator.integers(10) + np.arange(generator.integers(4, 15))) % 10).tolist() for _ in range(num_rows)]


def settings(**changes):
    values = {"num_steps": 12, "tokens_per_step": 600, "warm_up_steps": 3, "checkpoint_every": 5, "bf16": False}
    return UnitMBartPretrainingConfig(**{**values, "max_tokens": 32, "validate_every": 100, "model": SIZES, **changes})


def run(output, config, units=None, **options):
    given = {"vocabulary": VOCABULARY, "show_progress": False, **options}
    return pretrain_unit_mbart(counting() if units is None else units, output, config, **given)


def test_encoder_and_decoder_read_and_say_what_the_model_was_made_for():
    """Beside what `UnitMBartForConditionalGeneration` makes of an utterance itself."""
    config = UnitMBartConfig(vocab_size=17, num_units=10, languages=["de", "en"], max_position_embeddings=16, **SIZES)
    rows = make_language_rows([[3, 4, 5], [6]], ["en", "de"], VOCABULARY, config)
    assert [row.tolist() for row in rows] == [[15, 7, 8, 9], [14, 10]]
    objective = Infilling(settings(masked_units=1e-9), config)
    examples = objective.examples([[rows[0]]], np.random.default_rng(0))
    batch = objective.collate(examples)
    model = UnitMBartForConditionalGeneration(config).eval()
    model.set_language("en")
    own = model.encoder_inputs(torch.tensor([VOCABULARY.input_ids([3, 4, 5])]))
    # One mask that stands for a single unit is the least noise there is.
    whole = objective._sentence(rows[0][1:], rows[0][0])
    assert own["input_ids"][0].tolist() == whole.tolist() == [0, 7, 8, 9, 2, 15]
    assert batch["labels"][0].tolist() == whole.tolist() and objective.num_targets(examples) == 6
    assert (batch["input_ids"] == 16).sum() == 1 and batch["input_ids"].shape == (1, 6)
    assert model._said_before(batch["labels"])[0].tolist() == [15, 0, 7, 8, 9, 2]


def test_long_utterances_are_cut_to_the_table_of_positions():
    config = UnitMBartConfig(vocab_size=16, num_units=10, languages=["en"], max_position_embeddings=8, **SIZES)
    units = [index % 10 for index in range(23)]
    rows = make_language_rows([units, []], ["en", "en"], VOCABULARY, config)
    assert [token for row in rows for token in row[1:]] == VOCABULARY.encode(units)
    (example,) = Infilling(settings(), config).examples([[rows[0]]], np.random.default_rng(0))
    assert len(example[1]) == 8


def test_a_tiny_model_restores_masked_units(tmp_path):
    reports = []
    config = settings(num_steps=160, tokens_per_step=400, learning_rate=1e-2, validate_every=80)
    model = run(tmp_path, config, validation=counting(20, seed=1), on_report=reports.append)
    losses = [report["validation_loss"] for report in reports if "validation_loss" in report]
    assert losses[-1] < 0.7 < np.log(13), losses
    objective = Infilling(config, model.config)
    rows = make_language_rows(counting(30, seed=2), ["en"] * 30, VOCABULARY, model.config)
    batch = objective.collate(objective.examples([[row] for row in rows], None))
    with torch.no_grad():
        said = model(**batch, use_cache=False).logits.argmax(-1)
    real = batch["labels"] != -100
    assert (said == batch["labels"])[real].float().mean() > 0.85


def test_the_result_is_a_base(tmp_path):
    units = counting()
    languages = ["en", "de"] * 30
    model = run(tmp_path, settings(), units, languages=languages, fingerprint={"digest": "abc"})
    assert model.config.languages == ["de", "en"] and model.config.vocab_size == 17
    base = load_base(tmp_path)
    assert isinstance(base, UnitMBartForConditionalGeneration) and base.config.fingerprint == {"digest": "abc"}
    for name, value in model.state_dict().items():
        torch.testing.assert_close(base.state_dict()[name], value, atol=1e-2, rtol=1e-2)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"


def test_a_stopped_run_ends_as_an_undisturbed_one(tmp_path):
    whole = run(tmp_path / "whole", settings(validate_every=6), validation=counting(5, seed=1))

    def stop(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", settings(validate_every=6), validation=counting(5, seed=1), on_report=stop)
    again = run(tmp_path / "stopped", settings(validate_every=6), validation=counting(5, seed=1))
    for left, right in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"languages": ["en"]}, DatasetError, "60 utterances and languages of 1"),
        ({"units": [[]]}, DatasetError, "no utterance with units"),
        (
            {"languages": ["en"] * 60, "validation": [[1]]},
            DatasetError,
            "held-out utterances have no languages",
        ),
        ({"validation": [[1]], "validation_languages": "fr"}, ConfigurationError, "language is 'fr'"),
    ],
)
def test_wrong_corpora_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path, settings(), **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masked_units": 0.0}, "masked_units is 0.0"),
        ({"mean_span": 0.0}, "mean_span 0.0"),
        ({"break_mode": "packed"}, "of the pretraining of a GSLM"),
        ({"left_out_units": 0.1}, "of the pretraining of a GSLM"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        settings(**changes)


def test_other_languages_are_other_data(tmp_path):
    run(tmp_path, settings())
    with pytest.raises(ConfigurationError, match="other data: languages"):
        run(tmp_path, settings(), languages="de")
