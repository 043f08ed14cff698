"""Wrapped language models of transformers and their prompts, against the bare model with a cache filled by hand."""

import json

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForCausalLM, DynamicCache

from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.modeling import SpeechPromptForAudioClassification, UnitCausalLMConfig, UnitCausalLMForCausalLM
from speechprompt_hf.modeling.base_loading import base_fingerprint, base_vocabulary, load_base
from tests.fixtures.stock_unit_lms import CONFIGS, OFFSET, UNITS, cache_field, wrapped
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, count_calls, pad

pytestmark = [
    pytest.mark.filterwarnings(PEFT_WARNING),
    # GPT-2's configuration has token ids of its own vocabulary by default.
    pytest.mark.filterwarnings("ignore:.*token_id must be"),
]
# float32 sums in another order, logits of scale 2.
TOLERANCE = 3e-5
# The others are slow only in their number.
FAST = {("qwen3", False), ("opt", True), ("opt_350m", False), ("gpt_neox", True), ("gpt2", False)}
KINDS = [
    pytest.param(kind, start, marks=() if (kind, start) in FAST else pytest.mark.slow)
    for kind in CONFIGS
    for start in (True, False)
]
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Opens a stock model and its wrapped base by kind, each once."""
    known = {}

    def get(kind, start=True):
        if (kind, start) not in known:
            folder = tmp_path_factory.mktemp(f"{kind}_{start}")
            known[kind, start] = (*wrapped(kind, folder, start=start), folder / "base")
        return known[kind, start]

    return get


def theirs(lm, tokens):
    """Vectors `(1, n, E)` of the stock model's own tokens for an utterance, without a start token that it lacks."""
    stock, wrapper, _ = lm
    units = [token - 4 + OFFSET for token in tokens if token >= 4]
    start = [1] if wrapper.config.has_start_token else []
    return stock.get_input_embeddings()(torch.tensor([[*start, *units]]))


def bare_logits(lm, tokens, states=None):
    """Logits of the bare model at units and separator, in the order of units: `(n, UNITS)`.

    Keys and values lie in a cache, input vectors before the tokens; positions of tokens count tokens.
    """
    stock, wrapper, _ = lm
    vectors = theirs(lm, tokens)
    if tokens[-1] == 0:
        row = wrapper.get_input_embeddings().weight[0] if states is None else states.separator
        vectors = torch.cat([vectors, row.view(1, 1, -1)], 1)
    positions = torch.arange(vectors.shape[1]).unsqueeze(0)
    cache, skipped = DynamicCache(), 0
    if states is not None and states.keys is not None:
        for index, (keys, values) in enumerate(zip(states.keys, states.values, strict=True)):
            cache.update(keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0), index)
    if states is not None and states.inputs is not None:
        skipped = len(states.inputs)
        inputs = states.inputs - first_position(stock)
        vectors = torch.cat([inputs.unsqueeze(0), vectors], 1)
        positions = torch.cat([torch.zeros(1, skipped, dtype=torch.long), positions], 1)
    mask = torch.ones(1, cache.get_seq_length() + vectors.shape[1])
    logits = stock(inputs_embeds=vectors, attention_mask=mask, position_ids=positions, **{cache_field(): cache}).logits
    return logits[0, skipped + wrapper.config.has_start_token :, OFFSET : OFFSET + UNITS]


def first_position(stock):
    kind = stock.config.model_type
    if kind == "opt":
        return stock.model.decoder.embed_positions.weight[2]
    return stock.transformer.wpe.weight[0] if kind == "gpt2" else torch.zeros(())


def make(lm, **options):
    return SpeechPromptForAudioClassification.from_base(
        lm[1], NAMES, **{"num_virtual_tokens": 3, "separator_init": "normal", **options}
    )


def states_of(lm, kind):
    model = make(lm, prompt=kind)
    return model.prompt.states(model.lm)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "start"), KINDS)
def test_logits_of_units_are_the_bare_models(bases, kind, start):
    lm = bases(kind, start)
    rows = [row[:-1] for row in RAGGED_ROWS]
    for side in ("left", "right"):
        ids, mask = pad(rows, side)
        logits = lm[1](ids, mask).logits
        assert logits.shape == (*ids.shape, 4 + UNITS) and logits.isfinite().all()
        for tokens, row, keep in zip(rows, logits, mask.bool(), strict=True):
            assert (row[keep][1:, 4:] - bare_logits(lm, tokens)).abs().max() < TOLERANCE
        assert logits.std() > 0.5


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_projections_are_those_of_the_layers(bases, kind):
    """One token at position 0, whose keys no rotation changes: what each layer puts into its cache."""
    _, lm, _ = bases(kind)
    vectors = lm.get_input_embeddings()(torch.tensor([[9]]))
    output = lm.model(inputs_embeds=vectors, output_hidden_states=True, use_cache=True)
    cache = output[cache_field()]
    for index, (layer, states) in enumerate(zip(lm.prompt_layers(), output.hidden_states[:-1], strict=True)):
        normalized = layer.normalize(states[0])
        for ours, kept in (
            (layer.keys_of(normalized), cache.layers[index].keys),
            (layer.values_of(normalized), cache.layers[index].values),
        ):
            assert (ours - kept[0, :, 0].reshape(1, -1)).abs().max() < TOLERANCE
            assert ours.shape == (1, layer.width) and ours.std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", "input"])
@pytest.mark.parametrize(("kind", "start"), [pair for pair in KINDS if pair.values[0] != "opt_350m"])
def test_a_prompt_gives_what_the_bare_model_gives(bases, kind, start, prompt):
    lm = bases(kind, start)
    states = states_of(lm, prompt)
    for side in ("left", "right"):
        ids, mask = pad(RAGGED_ROWS, side)
        logits = lm[1](ids, mask, prompt=states).logits
        for tokens, row, keep in zip(RAGGED_ROWS, logits, mask.bool(), strict=True):
            assert (row[keep][1:, 4:] - bare_logits(lm, tokens, states)).abs().max() < TOLERANCE
    assert (lm[1](ids, mask).logits - logits)[mask.bool()].abs().max() > 0.3


@torch.no_grad()
def test_a_prompt_in_a_base_whose_embeddings_were_narrower(bases):
    """OPT-350M's kind: the bare model takes narrow vectors, so it cannot be given a separator of full width."""
    lm = bases("opt_350m", start=False)
    states = states_of(lm, "deep")
    tokens = list(RAGGED_ROWS[1][:-1])
    logits = lm[1](torch.tensor([tokens]), prompt=states).logits[0, 1:, 4:]
    assert (logits - bare_logits(lm, tokens, states)).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", "input"])
@pytest.mark.parametrize(("kind", "start"), [("qwen3", False), ("opt", True)])
def test_eager_attention_gives_the_same(bases, kind, prompt, start):
    _, lm, folder = bases(kind, start)
    eager = UnitCausalLMForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    states = states_of(bases(kind, start), prompt)
    ids, mask = pad(RAGGED_ROWS, "left")
    expected = lm(ids, mask, prompt=states).logits[mask.bool()]
    output = eager(ids, mask, prompt=states, output_attentions=True)
    assert (output.logits[mask.bool()] - expected).abs().max() < TOLERANCE
    assert output.attentions[0].shape == (3, 4, ids.shape[1] + 3 * (prompt == "input"), ids.shape[1] + 3)
    lm.set_attn_implementation("eager")
    changed = lm(ids, mask, prompt=states).logits[mask.bool()]
    lm.set_attn_implementation("sdpa")
    assert (changed - expected).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", ["qwen3", "opt_350m", "gpt2"])
def test_a_prompt_that_is_masked_out_changes_nothing(bases, kind):
    from dataclasses import replace

    lm = bases(kind, start=False)[1]
    ids, mask = pad(RAGGED_ROWS)
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    expected = lm(ids, mask).logits[mask.bool()]
    for prompt in ("deep", "input"):
        states = replace(states_of(bases(kind, start=False), prompt), separator=None)
        hidden = replace(states, key_mask=nothing) if prompt == "deep" else replace(states, input_mask=nothing)
        assert (lm(ids, mask, prompt=hidden).logits[mask.bool()] - expected).abs().max() < 1e-5
    # The same through a cache that nobody sees: columns of a prompt take no position, either.
    cache = DynamicCache()
    keys, values = torch.randn(2, 3, lm.config.num_key_value_heads, 5, lm.config.head_dim)
    for index in range(lm.config.num_hidden_layers):
        cache.update(keys, values, index)
    columns = torch.cat([torch.zeros(3, 5, dtype=torch.long), mask], 1)
    logits = lm(ids, columns, past_key_values=cache).logits
    assert (logits[mask.bool()] - expected).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("kind", ["qwen3", "opt_350m"])
def test_a_start_that_the_base_lacks_is_seen_by_no_unit(bases, kind):
    lm = bases(kind, start=False)[1]
    ids = torch.tensor([[2, 5, 9, 12]])
    for first in (2, 7):
        ids[0, 0] = first
        logits = lm(ids).logits
        assert (logits[0, 1:] - lm(torch.tensor([[2, 5, 9, 12]])).logits[0, 1:]).abs().max() == 0
        assert logits.isfinite().all()
    states = lm.read_utterances(ids, torch.ones_like(ids), None, at_separator=False)
    assert states.hidden_states.isfinite().all()
    memory = lm.read_utterances(ids, torch.ones_like(ids), None, at_separator=True, keep_memory=True).memory
    assert memory.visible.tolist() == [[False, True, True, True]]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "start"), [("qwen3", False), ("opt", True), ("gpt2", False)])
def test_a_cache_gives_the_same_step_by_step(bases, kind, start):
    lm = bases(kind, start)[1]
    ids, mask = pad(RAGGED_ROWS, "left")
    for prompt in (None, "deep", "input"):
        states = None if prompt is None else states_of(bases(kind, start), prompt)
        expected = lm(ids, mask, prompt=states).logits
        cache = lm(ids[:, :5], mask[:, :5], prompt=states, use_cache=True)[cache_field()]
        steps = [
            lm(ids[:, n : n + 1], mask[:, : n + 1], prompt=states, past_key_values=cache).logits for n in range(5, 8)
        ]
        assert (torch.cat(steps, 1) - expected[:, 5:]).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", "input"])
@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("qwen3", False),
        ("opt", True),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [("llama", True), ("opt", False), ("opt_350m", True), ("gpt2", False), ("gpt_neox", True)]
        ),
    ],
)
def test_stock_peft_gives_our_logits(bases, tmp_path, kind, prompt, start):
    lm = bases(kind, start)
    model = make(lm, prompt=prompt)
    model.save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(lm[2])
    stock = PeftModel.from_pretrained(base, tmp_path).eval()
    states = model.prompt.states(model.lm)
    for side in ("left", "right"):
        ids, mask = pad(RAGGED_ROWS, side)
        ours = model.lm(ids, mask, prompt=states).logits
        logits = stock(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
        assert (ours - logits)[mask.bool()].abs().max() < TOLERANCE
    ids = torch.tensor([RAGGED_ROWS[0]])
    expected = model.lm(ids, prompt=states).logits
    assert (stock(input_ids=ids).logits[:, -ids.shape[1] :] - expected).abs().max() < TOLERANCE
    if prompt == "deep":
        positions = torch.arange(ids.shape[1]).unsqueeze(0) - int(not start)
        explicit = stock(input_ids=ids, position_ids=positions).logits
        assert (explicit - expected)[:, 1:].abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["deep", "input"])
@pytest.mark.parametrize(("kind", "start"), [("qwen3", False), pytest.param("opt", True, marks=pytest.mark.slow)])
def test_stock_peft_generates_what_a_cache_free_loop_says(bases, kind, prompt, start):
    lm = bases(kind, start)
    model = make(lm, prompt=prompt)
    states = model.prompt.states(model.lm)
    rows = [row[:-1] for row in RAGGED_ROWS]
    ids, mask = pad(rows, "left")
    generated = model.to_peft().generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=None
    )
    for tokens, row in zip(rows, generated, strict=True):
        said = list(tokens)
        for _ in range(5):
            said.append(4 + int(bare_logits(lm, said, states)[-1].argmax()))
        assert row[-5:].tolist() == said[-5:]
        assert row[-5:].min() >= 4, "tokens that nothing was trained to predict are suppressed"


def test_peft_finds_the_sizes_by_itself(bases):
    """T35b."""
    for kind, start in (("qwen3", False), ("opt", True)):
        lm = UnitCausalLMForCausalLM.from_pretrained(bases(kind, start)[2])
        model = get_peft_model(lm, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
        width = sum(2 * layer.width for layer in lm.prompt_layers())
        assert model.prompt_encoder["default"].embedding.weight.shape == (5, width)
        assert model(input_ids=torch.tensor([[2, 5, 9]])).logits.shape == (1, 3, 4 + UNITS)
        assert model.word_embeddings is lm.get_input_embeddings()


@pytest.mark.parametrize("kind", ["qwen3", "opt", "gpt2", "gpt_neox"])
def test_gradient_checkpointing_gives_the_same_gradients(bases, kind):
    lm = bases(kind, start=False)
    layer = lm[1].config.family.decoder_layers(lm[1].model.backbone)[0]
    calls = count_calls(
        next(module for name, module in layer.named_modules() if name.endswith("mlp") or "fc1" in name)
    )
    ids, mask = pad(RAGGED_ROWS)
    gradients = []
    for checkpointing in (False, True):
        model = make(lm, prompt_dropout=0.0)
        if checkpointing:
            model.activation_checkpointing_enable()
        calls.clear()
        model.train()
        model(ids, mask, labels=torch.tensor([0, 1, 2])).loss.backward()
        assert len(calls) == 1 + checkpointing
        gradients.append([parameter.grad for parameter in (model.prompt.keys, model.prompt.values)])
        model.activation_checkpointing_disable()
    lm[1].eval()
    for plain, checkpointed in zip(*gradients, strict=True):
        assert plain.abs().max() > 1e-4
        assert torch.allclose(plain, checkpointed, atol=1e-6)


def test_a_cache_with_gradient_checkpointing_is_refused(bases):
    lm = UnitCausalLMForCausalLM.from_pretrained(bases("qwen3", start=False)[2])
    lm.activation_checkpointing_enable()
    with pytest.raises(ConfigurationError, match="cannot be combined with gradient checkpointing"):
        lm.train()(torch.tensor([[2, 5]]), past_key_values=DynamicCache())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt": "input", "readout": "pooled"},
        {"prompt_init": "vocabulary"},
        {"prompt_parametrization": "table", "prompt_init": "vocabulary", "readout": "pooled"},
        {"verbalizer": "random", "readout": "pooled"},
        {"method": "probe"},
        {"method": "finetune", "readout": "pooled"},
    ],
    ids=str,
)
def test_what_is_saved_opens_as_it_was(bases, tmp_path, options):
    folder = bases("qwen3", start=False)[2]
    model = SpeechPromptForAudioClassification.from_base(folder, NAMES, num_virtual_tokens=3, **options)
    model.save_pretrained(tmp_path)
    ids, mask = pad(RAGGED_ROWS)
    with torch.no_grad():
        expected = model(ids, mask).logits
        for auto_class in (AutoModel, AutoModelForAudioClassification):
            opened, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
            assert not any(info.values())
            assert (opened(ids, mask).logits - expected).abs().max() < 1e-5
        left, left_mask = pad(RAGGED_ROWS, "left")
        assert (model(left, left_mask).logits - expected).abs().max() < 1e-4
    assert expected.isfinite().all() and expected.std() > 0.01
    if options.get("method") in (None, "prompt"):
        assert isinstance(AutoModelForCausalLM.from_pretrained(tmp_path), PeftModel)


def test_a_base_is_loaded_with_its_vocabulary_and_without_places_of_adapters(bases, tmp_path):
    folder = bases("qwen3", start=False)[2]
    lm = load_base(folder)
    assert isinstance(lm, UnitCausalLMForCausalLM) and lm.num_units == UNITS
    assert base_vocabulary(folder).num_units == UNITS
    lm.save_pretrained(tmp_path)
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert base_fingerprint(load_base(tmp_path)) == base_fingerprint(lm)
    with pytest.raises(AdapterError, match="without a prompt, and classifies nothing"):
        AutoModelForAudioClassification.from_pretrained(folder)


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_base_in_half_precision(bases, dtype):
    folder = bases("qwen3", start=False)[2]
    ids, mask = pad(RAGGED_ROWS)
    model = SpeechPromptForAudioClassification.from_base(folder, NAMES, dtype=dtype, prompt_init="vocabulary")
    exact = SpeechPromptForAudioClassification.from_base(folder, NAMES, prompt_init="vocabulary")
    assert model.lm.dtype == getattr(torch, dtype) and model.prompt.keys.dtype == torch.float32
    assert (model(ids, mask).logits - exact(ids, mask).logits).abs().max() < 0.5
    assert model.config.base_fingerprint == exact.config.base_fingerprint


def test_the_fingerprint_depends_on_what_the_weights_compute(bases):
    lm = bases("qwen3", start=False)[1]
    state, values = lm.state_dict(), lm.config.to_dict()

    def fingerprint(**changes):
        inner = {**values["lm_config"], **changes.pop("lm_config", {})}
        model = UnitCausalLMForCausalLM(UnitCausalLMConfig(**{**values, **changes, "lm_config": inner}))
        model.load_state_dict(state)
        return base_fingerprint(model)["weights"]

    own = base_fingerprint(lm)["weights"]
    assert fingerprint() == own
    assert fingerprint(lm_config={"attention_dropout": 0.3}) == own
    assert fingerprint(lm_config={"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}) != own
    assert fingerprint(lm_config={"hidden_act": "gelu"}) != own
    assert fingerprint(has_start_token=True) != own


def test_more_tokens_than_learned_positions_are_refused(bases):
    ids = torch.full((1, 66), 9)
    for kind in ("opt_350m", "gpt2"):
        with pytest.raises(ConfigurationError, match="65 tokens is longer than the 64 positions"):
            bases(kind, start=False)[1](ids)
    assert bases("qwen3", start=False)[1](ids).logits.isfinite().all()


def test_inputs_that_contradict_each_other_are_refused(bases):
    lm = bases("qwen3", start=False)[1]
    ids = torch.tensor([[2, 5, 9]])
    with pytest.raises(ConfigurationError, match="exactly one of input_ids and inputs_embeds"):
        lm()
    with pytest.raises(ConfigurationError, match=r"attention mask has shape \(1, 2\)"):
        lm(ids, torch.ones(1, 2))
    states = states_of(bases("qwen3", start=False), "input")
    with pytest.raises(ConfigurationError, match="does not say what input prompts see"):
        lm(ids, torch.ones(1, 1, 3, 3, dtype=torch.bool), prompt=states)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"vocab_size": 4}, "vocab_size is 4"),
        ({"lm_config": {"model_type": "bert"}}, "'bert' cannot be wrapped .* gpt2, gpt_neox, llama"),
        ({"lm_config": {"model_type": ["opt"]}}, "cannot be wrapped"),
        ({"lm_config": {"model_type": "opt", "dropout": 0.1}}, "a frozen base has 0"),
        ({"lm_config": {"model_type": "mistral", "sliding_window": 64}}, "visible to every token"),
        ({"lm_config": {"model_type": "qwen2", "use_sliding_window": True}}, "visible to every token"),
        ({"lm_config": {"model_type": "llama", "auto_map": {"AutoModel": "evil.Model"}}}, "'auto_map'"),
        ({"lm_config": {"model_type": "llama", "_attn_implementation": "org/kernel"}}, "never fetched"),
        ({"lm_config": {"model_type": "llama", "hidden_act": "os.system"}}, "the activation"),
        ({"lm_config": {"model_type": "llama", "hidden_size": "64"}}, "is no configuration of llama"),
        ({"lm_config": {"model_type": "llama", "hidden_size": [64]}}, "a finite number"),
        ({"lm_config": {"model_type": "llama", "rms_norm_eps": float("nan")}}, "a finite number"),
        ({"lm_config": {"model_type": "llama", "num_attention_heads": 5}}, "is no configuration of llama"),
        ({"lm_config": {"model_type": "llama", "num_key_value_heads": 3}}, "heads of keys divide"),
        ({"lm_config": {"model_type": "llama", "num_attention_heads": 0}}, "lm_config"),
        ({"lm_config": {"model_type": "llama", "rope_parameters": {"rope_type": "evil"}}}, "rope_type in"),
        ({"lm_config": {"model_type": "llama", "rope_parameters": {"rope_theta": [1]}}}, "a finite number"),
    ],
)
def test_impossible_configurations_are_refused(changes, match):
    with pytest.raises(ConfigurationError, match=match):
        UnitCausalLMConfig(**changes)


@pytest.mark.parametrize(
    ("inner", "match"),
    [
        ({"num_hidden_layers": 10**6}, "lm_config.num_hidden_layers"),
        ({"hidden_size": 10**7}, "lm_config.hidden_size"),
        ({"num_hidden_layers": 40}, "shape None"),
        ({"intermediate_size": 999_999}, "has shape"),
        ({"attn_implementation": "org/kernel"}, "kernels of others are not fetched"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "'auto_map'"),
        ("no object", "an object"),
    ],
)
def test_hostile_files_are_refused_before_anything_of_their_size_is_made(bases, tmp_path, inner, match):
    folder = bases("qwen3", start=False)[2]
    values = json.loads((folder / "config.json").read_text())
    values["lm_config"] = {**values["lm_config"], **inner} if isinstance(inner, dict) else inner
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises((AdapterError, ConfigurationError), match=match):
        load_base(tmp_path)


def test_the_default_configuration_is_a_small_opt():
    config = UnitCausalLMConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.head_dim) == (768, 12, 64)
    assert config.make_lm_config().dropout == 0
    assert UnitCausalLMConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert "org/x" not in json.dumps(UnitCausalLMConfig.from_dict({"_attn_implementation": "org/x"}).to_dict())
