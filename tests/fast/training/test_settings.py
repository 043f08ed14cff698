"""What the training settings say to the model and to Trainer, and which are refused."""

import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.training import TrainingSettings


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, 256),
        ({"verbalizer_hidden_size": 12}, 12),
        ({"verbalizer_hidden_size": 0}, 0),
        ({"readout": "separator"}, 0),
        ({"readout": "separator", "verbalizer_hidden_size": 12}, 12),
        ({"verbalizer": "random"}, 0),
        ({"verbalizer": "frequency", "readout": "separator"}, 0),
    ],
    ids=str,
)
def test_the_verbalizer_has_two_layers_where_it_reads_the_whole_utterance(given, size):
    settings = TrainingSettings(**given)
    assert settings.model_options("prompt")["verbalizer_hidden_size"] == size
    assert settings.model_options("finetune")["verbalizer_hidden_size"] == size
    assert "verbalizer_hidden_size" not in settings.model_options("probe")


def test_labels_are_smoothed_unless_they_are_learnt_one_after_another():
    settings, separator = TrainingSettings(label_smoothing=0.2), TrainingSettings(readout="separator")
    assert settings.trainer_options("prompt")["label_smoothing_factor"] == 0.2
    assert settings.trainer_options("prompt", 3)["label_smoothing_factor"] == 0.2
    assert separator.trainer_options("prompt")["label_smoothing_factor"] == 0.1
    assert separator.trainer_options("prompt", 3)["label_smoothing_factor"] == 0.0
    assert separator.trainer_options("probe", 3)["label_smoothing_factor"] == 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"verbalizer_hidden_size": -1}, "verbalizer_hidden_size is -1"),
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
