"""Deep prompts in some layers: what is trained, what stays zero, and stock PEFT's opinion of the folder."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.modeling import (
    GSLMForCausalLM,
    SpeechPromptForAudioClassification,
    UnitMBartForConditionalGeneration,
)
from speechprompt_hf.modeling.prompt_deep import chosen_layers
from tests.fixtures.stock_unit_lms import wrapped
from tests.fixtures.tiny_models import HIDDEN_SIZE, PEFT_WARNING, RAGGED_ROWS, pad, randomize, tiny_lm
from tests.fixtures.unit_mbarts import DECODER_LAYERS, ENCODER_LAYERS, MBART_UNITS, MBART_WIDTH, tiny_mbart

pytestmark = pytest.mark.filterwarnings(
    PEFT_WARNING, "ignore:Position ids are not supported", "ignore:.*token_id must"
)
NAMES = ["a", "b", "c"]
EN = 4 + MBART_UNITS
SAID = torch.tensor([[EN, 0, 7], [EN, 0, 8], [EN, 0, 21]])
COLUMNS = 3
# Three layers of a GSLM; two of an encoder and three of a decoder.
GSLM_LAYERS = {"all": (0, 1, 2), "lower": (0, 1), "upper": (2,)}
MBART_LAYERS = {
    "all": (0, 1, 2, 3, 4),
    "lower": (0, 2, 3),
    "upper": (1, 4),
    "encoder": (0, 1),
    "decoder": (2, 3, 4),
}
CASES = [("gslm", *case) for case in GSLM_LAYERS.items()] + [("mbart", *case) for case in MBART_LAYERS.items()]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    tiny_lm(seed=5, num_hidden_layers=3).save_pretrained(folder / "gslm")
    tiny_mbart(seed=5).save_pretrained(folder / "mbart")
    return folder


def make(base, **options):
    options = {"num_virtual_tokens": COLUMNS, "separator_init": "normal", **options}
    model = SpeechPromptForAudioClassification.from_base(base, NAMES, **options)
    randomize(model.verbalizer, seed=1)
    return model


@torch.no_grad()
def scores(model):
    ids, mask = pad(RAGGED_ROWS)
    return model(input_ids=ids, attention_mask=mask).logits


def steps(model, number=3):
    """Updates with weight decay."""
    ids, mask = pad(RAGGED_ROWS)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05, weight_decay=0.1)
    model.train()
    for _ in range(number):
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 2])).loss.backward()
        optimizer.step()
    model.eval()
    return optimizer


@pytest.mark.parametrize(("kind", "choice", "layers"), CASES)
def test_which_layers_are_trained(bases, kind, choice, layers):
    model = make(bases / kind, prompt_layers=choice)
    assert chosen_layers(choice, model.lm) == model.prompt.trained_layers == layers
    width, num_layers = (HIDDEN_SIZE, 3) if kind == "gslm" else (MBART_WIDTH, ENCODER_LAYERS + DECODER_LAYERS)
    assert model.prompt.keys.shape == model.prompt.values.shape == (len(layers), COLUMNS, width)
    verbalizer = model.verbalizer.weight.numel()
    assert model.num_trained_parameters() == 2 * len(layers) * COLUMNS * width + width + verbalizer
    states = model.prompt.states(model.lm)
    for index, layer in enumerate(model.lm.prompt_layers()):
        is_bias = torch.equal(states.keys[index].flatten(1), layer.k_proj.bias.expand(COLUMNS, -1))
        assert is_bias == (index not in layers)
        assert torch.equal(states.values[index].flatten(1), layer.v_proj.bias.expand(COLUMNS, -1)) == is_bias
    assert len(states.keys) == num_layers
    # A layer begins the same whatever others are trained.
    whole = make(bases / kind)
    assert torch.equal(model.prompt.keys, whole.prompt.keys[list(layers)])


@pytest.mark.parametrize(("kind", "choice", "layers"), CASES)
@pytest.mark.parametrize("parametrization", ["projected", "table"])
def test_only_these_layers_change(bases, kind, choice, layers, parametrization):
    model = make(bases / kind, prompt_layers=choice, prompt_parametrization=parametrization)
    before = model.prompt.table(model.lm).unflatten(1, (model.prompt.num_layers, 2, -1))
    optimizer = steps(model)
    for vectors in (model.prompt.keys, model.prompt.values):
        assert (vectors.grad.flatten(1).abs().amax(1) > 0).all()
        assert optimizer.state[vectors]["exp_avg"].shape[0] == len(layers)
    after = model.prompt.table(model.lm).unflatten(1, (model.prompt.num_layers, 2, -1))
    changed = [index for index in range(model.prompt.num_layers) if not torch.equal(before[:, index], after[:, index])]
    assert changed == list(layers)
    if parametrization == "table":
        others = [index for index in range(model.prompt.num_layers) if index not in layers]
        assert (after[:, others] == 0).all()


@pytest.mark.parametrize(
    ("kind", "choice", "layers", "parametrization"),
    [
        *((*case, "projected") for case in CASES),
        ("gslm", "upper", GSLM_LAYERS["upper"], "table"),
        ("mbart", "lower", MBART_LAYERS["lower"], "table"),
    ],
)
@torch.no_grad()
def test_stock_peft_gives_the_same_logits(bases, tmp_path, kind, choice, layers, parametrization):
    model = make(bases / kind, prompt_layers=choice, prompt_parametrization=parametrization)
    model.save_pretrained(tmp_path)
    ids, mask = pad(RAGGED_ROWS)
    states = model.prompt.states(model.lm)
    if kind == "gslm":
        stock = PeftModel.from_pretrained(GSLMForCausalLM.from_pretrained(bases / kind), tmp_path).eval()
        plain = model.lm(ids, mask).logits[mask.bool()]
        ours = model.lm(ids, mask, prompt=states).logits[mask.bool()]
        theirs = stock(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    else:
        stock = PeftModel.from_pretrained(
            UnitMBartForConditionalGeneration.from_pretrained(bases / kind).eval(), tmp_path
        ).eval()
        inputs = model.lm.encoder_inputs(ids, mask)
        plain = model.lm(**inputs, decoder_input_ids=SAID).logits
        ours = model.lm(**inputs, decoder_input_ids=SAID, prompt=states).logits
        theirs = stock(**inputs, decoder_input_ids=SAID).logits
    assert (ours - plain).abs().max() > 0.1
    assert (theirs - ours).abs().max() < 1e-5
    opened = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(scores(opened), scores(model))
    assert opened.config.prompt_layers == choice and opened.prompt.trained_layers == layers
    assert opened.num_trained_parameters() == model.num_trained_parameters()


@pytest.mark.parametrize(("kind", "choice"), [("gslm", "upper"), ("mbart", "decoder")])
def test_an_opened_adapter_goes_on_in_these_layers_alone(bases, tmp_path, kind, choice):
    model = make(bases / kind, prompt_layers=choice)
    steps(model)
    model.save_pretrained(tmp_path / "first")
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "first")
    assert not opened.prompt.projected and torch.equal(scores(opened), scores(model))
    steps(opened)
    opened.save_pretrained(tmp_path / "second")
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "second"))
    number = 3 if kind == "gslm" else DECODER_LAYERS
    tables = [tensors["prompt_embeddings"].unflatten(1, (number, 2, -1)) for tensors in (before, after)]
    changed = [index for index in range(number) if not torch.equal(tables[0][:, index], tables[1][:, index])]
    assert changed == ([2] if kind == "gslm" else [0, 1, 2])
    if kind == "mbart":
        name = "base_model.model.encoder.encoder_prompt.table"
        assert torch.equal(before[name], after[name]) and before[name].abs().max() > 0
    assert torch.equal(scores(SpeechPromptForAudioClassification.from_pretrained(tmp_path / "second")), scores(opened))


def test_a_checkpoint_goes_on_with_the_vectors_before_the_projections(bases, tmp_path):
    model = make(bases / "gslm", prompt_layers="upper", prompt_dropout=0.0)
    steps(model, 2)
    model.save_pretrained(tmp_path / "checkpoint-2")
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert opened.prompt.projected
    for one in (model, opened):
        one.config.prompt_dropout = 0.0
        steps(one, 2)
    assert torch.equal(model.prompt.keys, opened.prompt.keys) and torch.equal(scores(model), scores(opened))
    # Of other layers nothing is in it.
    model = make(bases / "gslm", prompt_layers="lower")
    model.save_pretrained(tmp_path / "other")
    (tmp_path / "checkpoint-2" / "model.safetensors").rename(tmp_path / "other" / "model.safetensors")
    with pytest.raises(AdapterError, match=r"this model trains .* or other shapes"):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path / "other")


@pytest.mark.parametrize("choice", ["lower", "upper"])
def test_grouped_heads(tmp_path, choice):
    """Keys are narrower than states: a table changes the width of the trained vectors."""
    wrapped("llama", tmp_path, start=True)
    model = make(tmp_path / "base", prompt_layers=choice)
    model.save_pretrained(tmp_path / "adapter")
    opened = AutoModel.from_pretrained(tmp_path / "adapter")
    assert opened.prompt.keys.shape == (1, COLUMNS, 16) != model.prompt.keys.shape
    assert torch.equal(scores(opened), scores(model))
    table = model.prompt.table(model.lm)
    assert torch.equal(opened.prompt.table(opened.lm), table) and table.shape == (COLUMNS, 2 * 2 * 16)


def test_adapters_of_different_layers_share_a_batch(bases, tmp_path):
    lm = GSLMForCausalLM.from_pretrained(bases / "gslm").eval()
    options = {"all": {}, "upper": {"num_virtual_tokens": 5, "prompt_layers": "upper"}, "lower": {"seed": 3}}
    options["lower"]["prompt_layers"] = "lower"
    for name, given in options.items():
        make(lm, **given).save_pretrained(tmp_path / name)
    alone = {name: SpeechPromptForAudioClassification.from_pretrained(tmp_path / name, base=lm) for name in options}
    many = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "all", base=lm)
    for name in ("upper", "lower"):
        many.load_adapter(tmp_path / name, adapter_name=name)
    ids, mask = pad(RAGGED_ROWS)
    names = [many.active_adapter, "upper", "lower"]
    with torch.no_grad():
        mixed = many(input_ids=ids, attention_mask=mask, adapter_names=names).logits
    for row, name in enumerate(("all", "upper", "lower")):
        assert (mixed[row] - scores(alone[name])[row]).abs().max() < 1e-5
    many.set_adapter("upper")
    steps(many, 1)
    assert many.prompt.keys.shape[0] == 1 and many.prompt.keys.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt_layers": "middle"}, "prompt_layers is 'middle'"),
        ({"prompt_layers": "encoder"}, "prompt_layers is 'encoder', and the base has no encoder"),
        ({"prompt_layers": "decoder"}, "prompt_layers is 'decoder', and the base has no encoder"),
        ({"prompt_layers": "lower", "prompt": "input"}, "prompt_layers is 'lower' with prompt_type 'input'"),
    ],
)
def test_layers_that_are_not_there(bases, options, words):
    with pytest.raises(ConfigurationError, match=words):
        make(bases / "gslm", **options)


def test_one_layer_has_no_upper_half():
    assert make(tiny_lm(num_hidden_layers=1), prompt_layers="lower").prompt.trained_layers == (0,)
    with pytest.raises(ConfigurationError, match=r"prompt_layers is 'upper', and the base has 1 layer\(s\)"):
        make(tiny_lm(num_hidden_layers=1), prompt_layers="upper")


def test_the_card_names_the_layers(bases, tmp_path):
    make(bases / "gslm", prompt_layers="upper").save_pretrained(tmp_path)
    assert "deep prompt of 3 columns (layers: upper)" in (tmp_path / "README.md").read_text()
