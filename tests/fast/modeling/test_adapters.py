"""Adapter folders: what is written, what opens them, what is refused."""

import json
import shutil

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForCausalLM

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.errors import AdapterError, ConfigurationError, FingerprintMismatchError, LabelError
from speechprompt_hf.modeling import (
    GSLMForCausalLM,
    GSLMModel,
    SpeechPromptConfig,
    SpeechPromptForAudioClassification,
)
from speechprompt_hf.modeling.auto import GSLMForAudioClassification
from speechprompt_hf.modeling.base_loading import base_fingerprint, public_base_name
from tests.fixtures.tiny_models import PEFT_WARNING, RAGGED_ROWS, count_calls, pad, randomize, tiny_lm

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)
NAMES = ["zulu", "alpha", "mike"]
ADAPTER_FILES = {
    "README.md",
    "dict.txt",
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "verbalizer.safetensors",
}
VARIANTS = [
    {},
    {"prompt": "input"},
    {"prompt_parametrization": "table", "prompt_init": "vocabulary"},
    {"prompt": "input", "prompt_init": "vocabulary", "readout": "pooled"},
    {"prompt_init": "scaled", "verbalizer": "random", "readout": "pooled"},
    {"method": "probe"},
    {"method": "finetune", "readout": "pooled"},
]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_lm(seed=5).save_pretrained(folder)
    return folder


def make(base, **options):
    model = SpeechPromptForAudioClassification.from_base(base, NAMES, **{"separator_init": "normal", **options})
    if model.verbalizer.weight is not None:
        randomize(model.verbalizer, seed=1)
    if model.config.method == "finetune":
        randomize(model.lm, seed=8)
    return model


def logits_of(model):
    ids, mask = pad(RAGGED_ROWS)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForAudioClassification])
def test_what_is_saved_opens_as_it_was(options, auto_class, base_folder, tmp_path):
    model = make(base_folder, **options)
    model.save_pretrained(tmp_path)
    loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, SpeechPromptForAudioClassification)
    assert not any(info.values())
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert logits_of(model).std() > 0.05
    assert loaded.config.id2label == dict(enumerate(NAMES))
    assert not loaded.training
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert torch.equal(logits_of(auto_class.from_pretrained(again)), logits_of(model))


@pytest.mark.parametrize("options", VARIANTS[:5], ids=str)
def test_the_folder_is_a_stock_adapter_without_the_base(options, base_folder, tmp_path):
    model = make(base_folder, **options)
    model.save_pretrained(tmp_path / "ours")
    assert {path.name for path in (tmp_path / "ours").iterdir()} == ADAPTER_FILES
    assert sum(path.stat().st_size for path in (tmp_path / "ours").iterdir()) < 100_000
    stock = PeftModel.from_pretrained(GSLMForCausalLM.from_pretrained(base_folder), tmp_path / "ours")
    stock.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    ours, theirs = (load_file(tmp_path / side / "adapter_model.safetensors") for side in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = (json.loads((tmp_path / side / "adapter_config.json").read_text()) for side in ("ours", "theirs"))
    assert ours == theirs


def test_an_adapter_is_opened_as_a_language_model(base_folder, tmp_path):
    model = make(base_folder)
    model.save_pretrained(tmp_path)
    ids, mask = pad(RAGGED_ROWS)
    with torch.no_grad():
        expected = model.lm(ids, mask, prompt=model.prompt.states(model.lm)).logits[mask.bool()]
        for auto_class in (AutoModelForCausalLM, AutoPeftModelForCausalLM):
            opened = auto_class.from_pretrained(tmp_path)
            assert isinstance(opened, PeftModel)
            logits = opened(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            assert (logits - expected).abs().max() < 1e-5
        logits = model.to_peft()(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        assert (logits - expected).abs().max() < 1e-5
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())


@pytest.mark.parametrize("door", [GSLMModel, GSLMForAudioClassification, GSLMForCausalLM])
def test_doors_that_the_auto_classes_reach_after_their_jump_to_the_base(door, base_folder, tmp_path):
    """For a Hub id the Auto classes call the base's class with the base's name and the adapter in `adapter_kwargs`."""
    model = make(base_folder)
    model.save_pretrained(tmp_path)
    opened = door.from_pretrained(
        str(base_folder),
        config=AutoConfig.from_pretrained(base_folder),
        adapter_kwargs={"_adapter_model_path": str(tmp_path), "revision": None},
        trust_remote_code=False,
        _from_auto=True,
    )
    if door is GSLMForCausalLM:
        assert isinstance(opened, PeftModel)
    else:
        assert torch.equal(logits_of(opened), logits_of(model))


def test_a_plain_base_is_no_classifier(base_folder):
    with pytest.raises(AdapterError, match="without a prompt, and classifies nothing"):
        AutoModelForAudioClassification.from_pretrained(base_folder)
    with pytest.raises(AdapterError, match="model of type 'gslm'"):
        SpeechPromptForAudioClassification.from_pretrained(base_folder)


def test_the_configuration_opens_and_names_no_machine_for_the_embedded_base(base_folder, tmp_path):
    make(base_folder).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, SpeechPromptConfig)
    assert config.base_model_name_or_path == str(base_folder.resolve())
    assert "base_model" not in (tmp_path / "README.md").read_text()
    assert public_base_name("org/base") == "org/base"
    embedded = resolve_base(DEFAULT_BASE)
    assert public_base_name(DEFAULT_BASE) == DEFAULT_BASE
    assert public_base_name(embedded) == DEFAULT_BASE


def test_an_adapter_of_the_embedded_base_is_resolved_from_the_package(base_folder, tmp_path, monkeypatch):
    model = make(base_folder)
    model.config.base_model_name_or_path = DEFAULT_BASE
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == DEFAULT_BASE
    monkeypatch.setattr(
        "speechprompt_hf.modeling.base_loading.resolve_base",
        lambda name: str(base_folder) if name == DEFAULT_BASE else name,
    )
    assert torch.equal(logits_of(AutoModel.from_pretrained(tmp_path)), logits_of(model))


def test_another_base_of_the_same_shape_is_refused(base_folder, tmp_path):
    make(base_folder).save_pretrained(tmp_path / "adapter")
    tiny_lm(seed=6).save_pretrained(tmp_path / "other")
    with pytest.raises(
        FingerprintMismatchError, match=r"has weights \w{16}, the adapter was trained on weights \w{16}"
    ):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter", base=tmp_path / "other")
    model = SpeechPromptForAudioClassification.from_pretrained(tmp_path / "adapter", base=tiny_lm(seed=5))
    assert torch.equal(logits_of(model), logits_of(make(base_folder)))


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"num_attention_heads": 2}, {"scale_embedding": False}, {"activation_function": "gelu"}]
)
@pytest.mark.parametrize("door", [AutoModelForCausalLM, AutoModelForAudioClassification])
def test_a_base_that_changed_after_training_is_refused(door, change, tmp_path):
    tiny_lm(seed=5).save_pretrained(tmp_path / "base")
    make(tmp_path / "base").save_pretrained(tmp_path / "adapter")
    door.from_pretrained(tmp_path / "adapter")
    tiny_lm(**{"seed": 5, **change}).save_pretrained(tmp_path / "base")
    with pytest.raises(FingerprintMismatchError, match="the adapter was trained on"):
        door.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("recorded", ["1", None])
@pytest.mark.parametrize("door", [AutoModelForCausalLM, AutoModelForAudioClassification])
def test_a_base_of_another_version_is_refused_by_its_name(door, recorded, tmp_path):
    tiny_lm(seed=5, base_version=recorded).save_pretrained(tmp_path / "base")
    make(tmp_path / "base").save_pretrained(tmp_path / "adapter")
    tiny_lm(seed=6, base_version="2").save_pretrained(tmp_path / "base")
    trained_on = r"version 1 \(\w{16}\)" if recorded else r"weights \w{16}"
    with pytest.raises(
        FingerprintMismatchError, match=rf"is version 2 \(\w{{16}}\), the adapter was trained on {trained_on}"
    ) as caught:
        door.from_pretrained(tmp_path / "adapter")
    assert "train the adapter again on this version" in caught.value.hint


def test_the_same_weights_under_another_version_pass(tmp_path):
    tiny_lm(seed=5).save_pretrained(tmp_path / "base")
    model = make(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter")
    tiny_lm(seed=5, base_version="2").save_pretrained(tmp_path / "base")
    assert torch.equal(logits_of(AutoModel.from_pretrained(tmp_path / "adapter")), logits_of(model))


def test_another_base_passes_loudly_if_asked_for(base_folder, tmp_path):
    make(base_folder).save_pretrained(tmp_path / "adapter")
    other = tiny_lm(seed=6)
    with pytest.warns(UserWarning, match="ignored: the base .* has weights"):
        model = SpeechPromptForAudioClassification.from_pretrained(
            tmp_path / "adapter", base=other, ignore_mismatched_fingerprints=True
        )
    assert model.lm is other


def test_the_fingerprint_follows_weights_that_are_trained_in_place(base_folder):
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    before = base_fingerprint(lm)
    assert base_fingerprint(lm.to(torch.bfloat16)) == before
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    model = make(lm)
    tuned = SpeechPromptForAudioClassification.from_base(lm, NAMES, method="finetune").train()
    optimizer = torch.optim.SGD([value for value in tuned.parameters() if value.requires_grad], lr=0.1)
    ids, mask = pad(RAGGED_ROWS)
    tuned(ids, mask, labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    assert model.config.base_fingerprint == before != make(lm).config.base_fingerprint


def test_a_base_from_the_hub_is_pinned_to_its_commit(base_folder):
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    assert make(lm, base_revision="main").config.base_revision == "main"
    lm.config._commit_hash = "0123abc"
    assert make(lm, base_revision="main").config.base_revision == "0123abc"


def test_a_mixture_is_fed_back_only_after_the_separator(base_folder):
    with pytest.raises(ConfigurationError, match="does nothing with readout 'pooled'"):
        make(base_folder, label_feedback="mixture", readout="pooled")


def test_a_base_without_a_name_must_be_given(tmp_path):
    model = make(tiny_lm(seed=5))
    model.save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="does not name its base"):
        AutoModel.from_pretrained(tmp_path)
    loaded = SpeechPromptForAudioClassification.from_pretrained(tmp_path, base=tiny_lm(seed=5))
    assert torch.equal(logits_of(loaded), logits_of(model))


@pytest.mark.parametrize("missing", ["verbalizer.safetensors", "adapter_model.safetensors"])
def test_an_incomplete_folder_is_refused(missing, base_folder, tmp_path):
    make(base_folder).save_pretrained(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(AdapterError, match=f"has no {missing}"):
        AutoModel.from_pretrained(tmp_path)


def test_no_tensor_of_an_adapter_is_dropped_silently(base_folder, tmp_path):
    make(base_folder).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "base_model.extra": torch.zeros(1)}, path)
    with pytest.raises(AdapterError, match=r"holds base_model\.extra"):
        AutoModel.from_pretrained(tmp_path)
    save_file({**tensors, "prompt_embeddings": torch.zeros(4, 128)}, path)
    with pytest.raises(AdapterError, match=r"has shape \(4, 128\)"):
        AutoModel.from_pretrained(tmp_path)


def test_a_plain_peft_adapter_is_named_as_such(base_folder, tmp_path):
    make(base_folder).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(AdapterError, match=r"has no config\.json"):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_only_what_is_trained_has_gradients(options, base_folder, tmp_path):
    model = make(base_folder, **options)
    model.save_pretrained(tmp_path)
    for candidate in (model, AutoModel.from_pretrained(tmp_path)):
        trained = {name for name, parameter in candidate.named_parameters() if parameter.requires_grad}
        if model.config.method == "prompt":
            assert not [name for name in trained if name.startswith("lm.")]
            assert "prompt.separator_offset" in trained
        assert not [name for name in trained if "embed_tokens.separator" in name]
        candidate.train()
        ids, mask = pad(RAGGED_ROWS)
        candidate(ids, mask, labels=torch.tensor([0, 1, 2])).loss.backward()
        for name, parameter in candidate.named_parameters():
            assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == (name in trained), name


def test_trained_parameters_are_counted(base_folder):
    # 5 columns: keys and values in 2 layers of width 32, the separator, the verbalizer of 3 × 30.
    assert make(base_folder).num_trained_parameters() == 2 * 2 * 5 * 32 + 32 + 3 * 30
    assert make(base_folder, prompt="input").num_trained_parameters() == 5 * 32 + 32 + 3 * 30
    assert make(base_folder, verbalizer="random").num_trained_parameters() == 2 * 2 * 5 * 32 + 32
    assert make(base_folder, method="probe").num_trained_parameters() == 3 * 32 + 3


def test_a_frozen_language_model_has_no_dropout_in_training(base_folder):
    model = make(base_folder, prompt_dropout=0.0).train()
    assert model.lm.config.dropout > 0
    assert torch.equal(logits_of(model), logits_of(model))
    assert not torch.equal(logits_of(make(base_folder).train()), logits_of(make(base_folder).train()))


def test_gradient_checkpointing_works_with_deep_prompts(base_folder):
    ids, mask = pad(RAGGED_ROWS)
    gradients = []
    for checkpointing in (False, True):
        model = make(base_folder, prompt_dropout=0.0)
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()
        calls = count_calls(model.lm.model.layers[0].fc1)
        model(ids, mask, labels=torch.tensor([0, 1, 2])).loss.backward()
        assert len(calls) == 1 + checkpointing
        gradients.append(model.prompt.keys.grad)
    assert torch.allclose(*gradients, atol=1e-6)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("prompt", ["deep", "input"])
def test_a_checkpoint_restores_the_trained_vectors_themselves(prompt, base_folder, tmp_path):
    model = make(base_folder, prompt=prompt)
    model.save_pretrained(tmp_path / "checkpoint", save_training_state=True)
    model.save_pretrained(tmp_path / "published")
    assert (tmp_path / "checkpoint" / "model.safetensors").exists()
    assert not (tmp_path / "published" / "model.safetensors").exists()
    resumed = AutoModel.from_pretrained(tmp_path / "checkpoint")
    for name, parameter in model.prompt.named_parameters():
        assert torch.equal(dict(resumed.prompt.named_parameters())[name], parameter), name
    if prompt == "deep":
        assert resumed.prompt.projected
        assert not AutoModel.from_pretrained(tmp_path / "published").prompt.projected
    # Publishing into the folder of a checkpoint leaves no training state behind.
    model.save_pretrained(tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint" / "model.safetensors").exists()


def test_saving_while_training_saves_no_dropout(base_folder, tmp_path):
    model = make(base_folder, prompt_dropout=0.5)
    model.save_pretrained(tmp_path / "eval")
    model.train().save_pretrained(tmp_path / "train")
    assert model.prompt.training
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("eval", "train"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_trainer_keywords_are_accepted_and_other_processes_write_nothing(base_folder, tmp_path):
    model = make(base_folder)
    model.save_pretrained(tmp_path / "other", state_dict=model.state_dict(), is_main_process=False)
    assert not (tmp_path / "other").exists()
    model.save_pretrained(tmp_path / "main", state_dict=model.state_dict(), is_main_process=True)
    assert {path.name for path in (tmp_path / "main").iterdir()} == ADAPTER_FILES
    assert not model.accepts_loss_kwargs


def test_a_written_card_is_kept(base_folder, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    make(base_folder).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_push_to_hub_uploads_the_folder(base_folder, tmp_path, monkeypatch):
    model, calls = make(base_folder), []
    monkeypatch.setattr(type(model), "push_to_hub", lambda self, repo_id, **options: calls.append((repo_id, options)))
    model.save_pretrained(tmp_path / "mine", push_to_hub=True, private=True, max_shard_size="1GB")
    model.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="org/ic")
    assert calls == [("mine", {"private": True}), ("org/ic", {})]


def test_a_half_precision_base_keeps_float32_prompts(base_folder, tmp_path):
    model = make(base_folder)
    model.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.lm.dtype == torch.bfloat16
    assert {parameter.dtype for name, parameter in half.named_parameters() if parameter.requires_grad} == {
        torch.float32
    }
    assert (logits_of(half) - logits_of(model)).abs().max() < 0.05 * logits_of(model).abs().max()
    half.save_pretrained(tmp_path / "again")
    # The table of a projected prompt does not depend on the precision that the base was opened with.
    first, second = (load_file(path / "adapter_model.safetensors") for path in (tmp_path, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(logits_of(AutoModel.from_pretrained(tmp_path / "again")), logits_of(model))


def test_a_base_that_was_rounded_before_training_is_recognised(base_folder, tmp_path):
    lm = GSLMForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    make(lm).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).base_fingerprint["dtype"] == "bfloat16"
    AutoModel.from_pretrained(tmp_path)


def test_adapters_share_a_base(base_folder, tmp_path):
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    first, second = make(lm), make(lm, prompt="input", seed=3)
    assert first.lm is second.lm
    assert not torch.equal(logits_of(first), logits_of(second))
    assert torch.equal(logits_of(first), logits_of(make(base_folder)))


def test_subfolders(base_folder, tmp_path):
    model = make(base_folder)
    model.save_pretrained(tmp_path / "inner")
    opened = SpeechPromptForAudioClassification.from_pretrained(tmp_path, subfolder="inner")
    assert torch.equal(logits_of(opened), logits_of(model))


def test_a_moved_adapter_opens(base_folder, tmp_path):
    model = make(base_folder)
    model.save_pretrained(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert torch.equal(logits_of(AutoModel.from_pretrained(tmp_path / "there")), logits_of(model))


def test_one_class_is_no_classifier(base_folder):
    with pytest.raises(LabelError, match=r"1 class\(es\)"):
        SpeechPromptForAudioClassification.from_base(base_folder, ["only"])


def test_a_foreign_base_is_refused(tmp_path):
    from transformers import BloomConfig, BloomForCausalLM

    BloomForCausalLM(BloomConfig(n_layer=1, n_head=2, hidden_size=8, vocab_size=20)).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="is of model_type 'bloom', no unit language model"):
        SpeechPromptForAudioClassification.from_base(tmp_path, NAMES)


def test_stock_peft_finds_every_size_and_trains_table_and_separator(base_folder, tmp_path):
    lm = GSLMForCausalLM.from_pretrained(base_folder)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, modules_to_save=["separator"])
    peft_model = get_peft_model(lm, config).train()
    assert peft_model.word_embeddings is lm.get_input_embeddings()
    trained = {name for name, parameter in peft_model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2
    ids, mask = pad([[*row, 7] for row in RAGGED_ROWS])  # a label after the separator
    peft_model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    for name, parameter in peft_model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == (name in trained), name
    optimizer = torch.optim.SGD([p for p in peft_model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    peft_model.eval().save_pretrained(tmp_path, save_embedding_layers=False)
    reloaded = PeftModel.from_pretrained(GSLMForCausalLM.from_pretrained(base_folder), tmp_path).eval()
    with torch.no_grad():
        logits = [model(input_ids=ids, attention_mask=mask).logits for model in (peft_model, reloaded)]
        with peft_model.disable_adapter():
            untouched = peft_model(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(*logits)
    assert torch.equal(untouched, tiny_lm(seed=5)(ids, mask).logits)


def test_a_tuned_language_model_takes_no_other_base(base_folder, tmp_path):
    make(base_folder, method="finetune").save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    with pytest.raises(AdapterError, match="language model of its own"):
        SpeechPromptForAudioClassification.from_pretrained(tmp_path, base=base_folder)
