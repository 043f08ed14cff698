"""Checkpoints as fairseq writes them, of tiny random models, and pickles that would run code if they were loaded."""

import os
import pickle
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from speechprompt_hf.modeling import GSLMConfig, GSLMForCausalLM

# V, D and F differ, so that no two shapes are mistaken for each other; 20 units need no padded row.
UNITS, WIDTH, INNER, LAYERS, HEADS = 20, 16, 40, 2, 4


class Planted:
    """Pickles to a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@dataclass
class Trap:
    """Something that creates `mark` when it is unpickled in the ordinary way."""

    name: str
    planted: Planted
    mark: Path


@pytest.fixture(params=["os.system", "eval", "exec", "symlink", "rename"])
def trap(request, tmp_path) -> Trap:
    mark = tmp_path / "executed"
    made = tmp_path / "before"
    made.write_text("")
    planted, name = {
        "os.system": (Planted(os.system, f"touch {mark}"), "system"),
        "eval": (Planted(eval, f"open({str(mark)!r}, 'w').close()"), "eval"),
        "exec": (Planted(exec, f"open({str(mark)!r}, 'w').close()"), "exec"),
        "symlink": (Planted(os.symlink, str(made), str(mark)), "symlink"),
        "rename": (Planted(os.rename, str(made), str(mark)), "rename"),
    }[request.param]
    return Trap(name, planted, mark)


@pytest.fixture
def call_of():
    """Makes something that pickles to a call."""
    return Planted


def random_model(units=UNITS, tie=True) -> GSLMForCausalLM:
    torch.manual_seed(0)
    config = GSLMConfig(
        vocab_size=4 + units,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=64,
        tie_word_embeddings=tie,
    )
    model = GSLMForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    return model


def fairseq_state(model: GSLMForCausalLM) -> dict[str, torch.Tensor]:
    """The names of method.md §1.3, written out layer by layer."""
    state = {"decoder.version": torch.tensor([3.0]), "decoder.embed_tokens.weight": model.model.embed_tokens.weight}
    state["decoder.embed_positions._float_tensor"] = torch.zeros(1)
    for number, layer in enumerate(model.model.layers):
        start = f"decoder.layers.{number}."
        attention = layer.self_attn
        for name, module in (
            ("self_attn.k_proj", attention.k_proj),
            ("self_attn.v_proj", attention.v_proj),
            ("self_attn.q_proj", attention.q_proj),
            ("self_attn.out_proj", attention.out_proj),
            ("self_attn_layer_norm", layer.self_attn_layer_norm),
            ("fc1", layer.fc1),
            ("fc2", layer.fc2),
            ("final_layer_norm", layer.final_layer_norm),
        ):
            state[f"{start}{name}.weight"], state[f"{start}{name}.bias"] = module.weight, module.bias
    state["decoder.layer_norm.weight"] = model.model.layer_norm.weight
    state["decoder.layer_norm.bias"] = model.model.layer_norm.bias
    state["decoder.output_projection.weight"] = model.lm_head.weight
    return {key: value.detach().clone() for key, value in state.items()}


def fairseq_settings(**changes) -> dict:
    values = {
        "arch": "transformer_lm_big",
        "decoder_embed_dim": WIDTH,
        "decoder_input_dim": WIDTH,
        "decoder_output_dim": WIDTH,
        "decoder_ffn_embed_dim": INNER,
        "decoder_layers": LAYERS,
        "decoder_attention_heads": HEADS,
        "decoder_normalize_before": True,
        "share_decoder_input_output_embed": True,
        "activation_fn": "relu",
        "tokens_per_sample": 64,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "lr": [0.0005],
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not ...}


@dataclass
class Checkpoint:
    """A checkpoint that can be changed before it is written."""

    model: GSLMForCausalLM
    state: dict
    content: dict
    folder: Path

    def write(self, **options) -> Path:
        path = self.folder / "checkpoint_best.pt"
        torch.save(self.content, path, **options)
        return path

    def dictionary(self, symbols=None) -> Path:
        path = self.folder / "dict.txt"
        symbols = [str(unit) for unit in range(UNITS)] if symbols is None else symbols
        path.write_text("".join(f"{symbol} {7 * index}\n" for index, symbol in enumerate(symbols)))
        return path


@pytest.fixture
def make_checkpoint(tmp_path):
    def make(units=UNITS, tie=True, **changes) -> Checkpoint:
        model = random_model(units, tie)
        state = fairseq_state(model)
        content = {
            "args": None,
            "cfg": Namespace(**fairseq_settings(**changes)),
            "model": state,
            "optimizer_history": [{"criterion_name": "CrossEntropyCriterion", "num_updates": 3}],
            "extra_state": {"train_iterator": {"epoch": 45}, "val_loss": 3.4, "best": float("inf")},
            "last_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{}]},
        }
        return Checkpoint(model, state, content, tmp_path)

    return make


@pytest.fixture
def checkpoint(make_checkpoint) -> Checkpoint:
    return make_checkpoint()


@pytest.fixture
def loads_inert():
    """Reads pickled bytes by the rules of torch's files."""
    import io

    from speechprompt_hf.convert.byte_stream import ByteStream
    from speechprompt_hf.convert.pickle_machine import load_inert
    from speechprompt_hf.convert.torch_names import TorchRules

    def loads(content: bytes, rules=None):
        return load_inert(ByteStream(io.BytesIO(content), "x.pkl"), rules or TorchRules())

    return loads


@pytest.fixture
def would_run(trap):
    """Loads bytes in the ordinary way and says whether the trap went off; without it no test of a trap means much."""

    def run(content: bytes) -> bool:
        assert not trap.mark.exists()
        pickle.loads(content)  # noqa: S301 - made here
        gone_off = trap.mark.exists()
        trap.mark.unlink(missing_ok=True)
        return gone_off

    return run
