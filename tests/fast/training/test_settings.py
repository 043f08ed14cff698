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


@pytest.mark.parametrize(
    ("given", "num_label_positions", "smoothing"),
    [
        ({}, 1, 0.1),
        ({}, 3, 0.1),
        ({"label_smoothing": 0.2}, 3, 0.2),
        ({"label_smoothing": 0.0}, 1, 0.0),
        ({"readout": "separator"}, 1, 0.0),
        ({"readout": "separator", "label_smoothing": 0.2}, 1, 0.2),
        ({"readout": "separator", "label_smoothing": 0.2}, 3, 0.0),
        ({"verbalizer": "random"}, 1, 0.0),
    ],
    ids=str,
)
def test_labels_are_smoothed_where_the_whole_utterance_is_read(given, num_label_positions, smoothing):
    options = TrainingSettings(**given).trainer_options("prompt", num_label_positions)
    assert options["label_smoothing_factor"] == smoothing


def test_a_probe_learns_all_labels_at_once():
    settings = TrainingSettings(readout="separator", label_smoothing=0.2)
    assert settings.trainer_options("probe", 3)["label_smoothing_factor"] == 0.2


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
