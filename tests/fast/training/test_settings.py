"""What the training settings say to the model and to Trainer, and which are refused."""

import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.training import TrainingSettings

POOLED, SEPARATOR = {"readout": "pooled"}, {"readout": "separator"}


@pytest.mark.parametrize(
    ("given", "method", "model_options", "positions", "expected"),
    [
        ({}, "prompt", {}, 1, (256, 0.1)),
        ({}, "finetune", {}, 1, (256, 0.1)),
        ({}, "prompt", {}, 3, (256, 0.1)),
        ({"verbalizer_hidden_size": 12, "label_smoothing": 0.2}, "prompt", {}, 3, (12, 0.2)),
        ({"verbalizer_hidden_size": 0, "label_smoothing": 0.0}, "prompt", {}, 1, (0, 0.0)),
        (SEPARATOR, "prompt", {}, 1, (0, 0.0)),
        (SEPARATOR, "prompt", POOLED, 1, (256, 0.1)),
        ({}, "prompt", SEPARATOR, 1, (0, 0.0)),
        (SEPARATOR | {"verbalizer_hidden_size": 12, "label_smoothing": 0.2}, "prompt", {}, 1, (12, 0.2)),
        (SEPARATOR | {"label_smoothing": 0.2}, "prompt", {}, 3, (0, 0.0)),
        ({"label_smoothing": 0.2}, "prompt", SEPARATOR, 3, (0, 0.0)),
        ({"verbalizer": "random"}, "prompt", {}, 1, (0, 0.0)),
        ({}, "prompt", {"verbalizer": "random"}, 1, (0, 0.0)),
        ({}, "probe", {}, 1, (0, 0.0)),
        ({"verbalizer_hidden_size": 12}, "probe", {}, 1, (0, 0.0)),
        ({}, "probe", POOLED, 1, (256, 0.1)),
    ],
    ids=str,
)
def test_what_depends_on_the_readout(given, method, model_options, positions, expected):
    settings = TrainingSettings(**given).resolved(method, model_options, positions)
    assert (settings.verbalizer_hidden_size, settings.label_smoothing) == expected
    assert settings.model_options(method)["verbalizer_hidden_size"] == expected[0]
    assert settings.trainer_options(method)["label_smoothing_factor"] == expected[1]
    assert settings.resolved(method, model_options, positions) == settings


def test_settings_that_are_not_resolved_say_the_same_to_model_and_trainer():
    assert TrainingSettings().model_options("prompt")["verbalizer_hidden_size"] == 256
    assert TrainingSettings(readout="separator").trainer_options("prompt")["label_smoothing_factor"] == 0.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"verbalizer_hidden_size": -1}, "verbalizer_hidden_size is -1"),
        ({"verbalizer_hidden_size": 65_537}, "verbalizer_hidden_size is 65537"),
        ({"verbalizer_hidden_size": 2.5}, "verbalizer_hidden_size is 2.5"),
        ({"verbalizer": "random", "verbalizer_hidden_size": 5}, "verbalizer_hidden_size is 5 with a 'random' verbal"),
        ({"num_epochs": 0}, "num_epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"prompt": "input", "prompt_layers": "upper"}, "prompt_layers is 'upper' with an input prompt"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        TrainingSettings(**given)
