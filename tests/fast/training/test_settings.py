"""What the training settings say to the model and to Trainer, and which are refused."""

import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.training import TrainingSettings


def test_the_verbalizer_is_linear_unless_it_is_said():
    assert TrainingSettings().model_options("prompt")["verbalizer_hidden_size"] == 0
    settings = TrainingSettings(verbalizer_hidden_size=12, label_smoothing=0.2)
    for method in ("prompt", "finetune"):
        assert settings.model_options(method)["verbalizer_hidden_size"] == 12
        assert settings.trainer_options(method)["label_smoothing_factor"] == 0.2
    # A probe reads hidden states.
    assert "verbalizer_hidden_size" not in settings.model_options("probe")


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
