import numpy as np
import pytest
import torch

from speechprompt_hf.core.errors import AdapterError, ConfigurationError, LabelError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.explanation import explain_labels
from tests.fixtures.made_up_classifiers import AdditiveModel
from tests.fixtures.sequence_models import make_sequence_model
from tests.fixtures.tiny_models import tiny_lm


@pytest.mark.parametrize("readout", ["pooled", "separator", "hidden"])
def test_what_is_heard_is_what_the_model_answers_to_one_unit(unit_model, readout):
    model = unit_model(readout=readout)
    explanation = explain_labels(model)
    assert explanation.labels == ("a", "b", "c")

    def log_odds(units):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([model.vocabulary.input_ids(units)])).logits[0].double()
        return torch.logit(logits.softmax(-1)).numpy()

    for place in (0, 7, 25):
        expected = log_odds([int(explanation.units[place])]) - log_odds([])
        assert explanation.heard[:, place] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("readout", ["pooled", "separator"])
def test_weights_are_those_of_the_verbalizer(unit_model, readout):
    model = unit_model(readout=readout)
    explanation = explain_labels(model)
    num_units, vocab_size = model.vocabulary.num_units, model.config.vocab_size
    weight = model.verbalizer.weight.detach().numpy()
    centred = weight - weight.mean(0)
    assert np.allclose(explanation.weights, centred[:, 4 : 4 + num_units], atol=1e-6)
    if readout == "pooled":
        of_mean = centred[:, vocab_size + 4 : vocab_size + 4 + num_units]
        assert np.allclose(explanation.mean_weights, of_mean, atol=1e-6)
    else:
        assert explanation.mean_weights is None
    strongest = explanation.strongest("b", 4, "weights")
    row = explanation.weights[1]
    assert [one.unit for one in strongest] == np.argsort(-row)[:4].tolist()
    assert [one.weight for one in strongest] == pytest.approx(np.sort(row)[::-1][:4].tolist())


def test_columns_are_units_whatever_the_order_of_the_vocabulary():
    model = AdditiveModel([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    straight = explain_labels_of(model)
    model.vocabulary = UnitVocabulary(("2", "0", "1"))
    turned = explain_labels_of(model)
    assert turned.units.tolist() == [0, 1, 2]
    # Unit 0 is now the second token.
    assert np.allclose(straight[:, [1, 2, 0]], turned.heard)


def explain_labels_of(model):
    model.verbalizer = torch.nn.Module()
    model.verbalizer.config = type("Config", (), {"readout": "hidden"})()
    explanation = explain_labels(model)
    if model.vocabulary.symbols[0] == "0":
        assert np.allclose(explanation.heard, [[3, -2, 0], [-3, 2, 0]], atol=1e-5)
        return explanation.heard
    return explanation


def test_of_several_labels_the_weights_are_added(unit_model):
    model = unit_model(label_sequences=[[0, 2], [1, 2], [1, 3]], readout="separator", label_feedback="mixture")
    weight = model.verbalizer.weight.detach().numpy()
    first, second = weight[:2] - weight[:2].mean(0), weight[2:] - weight[2:].mean(0)
    expected = np.stack([first[0] + second[0], first[1] + second[0], first[1] + second[1]])
    explanation = explain_labels(model)
    assert np.allclose(explanation.weights, expected[:, 4 : 4 + model.vocabulary.num_units], atol=1e-6)


@pytest.mark.parametrize("kind", ["random", "frequency"])
def test_a_fixed_verbalizer_has_one_unit_a_label(unit_model, kind):
    rows = {"training_units": [[3, 3, 5], [5, 3, 9]], "training_labels": [0, 1]} if kind == "frequency" else {}
    model = unit_model(verbalizer=kind, readout="pooled", **rows)
    explanation = explain_labels(model)
    for index, label in enumerate("abc"):
        (one,) = explanation.strongest(label, 5, "weights")
        assert one.weight == 1 and one.unit == int(model.verbalizer.unit_token_of_row[index]) - 4
    assert "fixed" in explanation.note


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"readout": "pooled", "verbalizer_hidden_size": 6}, "two layers"),
        ({"readout": "hidden"}, "none of whose dimensions is a unit"),
    ],
)
def test_where_no_weight_belongs_to_a_unit_it_is_said(unit_model, options, words):
    explanation = explain_labels(unit_model(**options))
    assert explanation.weights is None and explanation.mean_weights is None
    with pytest.raises(ConfigurationError, match=words):
        explanation.strongest("a", by="weights")
    assert explanation.strongest("a")


def test_only_units_that_speak_for_a_label_are_named(unit_model):
    explanation = explain_labels(unit_model(readout="pooled"))
    everything = explanation.strongest("a", 1000)
    assert len(everything) == int((explanation.heard[0] > 0).sum())
    with pytest.raises(LabelError, match=r"'d' is no label.*a, b, c"):
        explanation.strongest("d")
    with pytest.raises(ConfigurationError, match="no 'magic'"):
        explanation.strongest("a", by="magic")


def test_a_model_that_says_texts_is_refused():
    with pytest.raises(AdapterError, match="says texts"):
        explain_labels(make_sequence_model(tiny_lm()))
