"""Make unit_mbart.safetensors, small random mBARTs of fairseq and what they say; needs fairseq."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models.bart import BARTModel
from fairseq.models.bart.model import mbart_large_architecture
from fairseq.sequence_generator import SequenceGenerator
from safetensors.torch import save_file

UNITS, LANGUAGES = 20, ("en", "es")
SIZES = {
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_source_positions": 30,
    "max_target_positions": 30,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "pre": {"encoder_normalize_before": True, "decoder_normalize_before": True},
    "post": {"weight_std": 0.2, "seed": 14},
}
# <s>, units, </s>, [language]; padded on the right.
SOURCE = [[0, 9, 4, 17, 23, 5, 2, 24], [0, 12, 6, 2, 24, 1, 1, 1]]
SAID = [[24, 0, 9, 4, 17], [24, 0, 12, 6, 20]]
MAX_LENGTH = 12


def make_dictionary(units: int = UNITS, languages: tuple[str, ...] = LANGUAGES) -> Dictionary:
    """Units, languages and the mask, as the pretraining task puts them together."""
    dictionary = Dictionary()
    for symbol in [*map(str, range(units)), *(f"[{name}]" for name in languages), "<mask>"]:
        dictionary.add_symbol(symbol)
    return dictionary


def make_model(
    seed: int = 7, units: int = UNITS, weight_std: float = 0.6, **settings: Any
) -> tuple[BARTModel, Namespace]:
    """A random mBART whose biases and norms are random too, and the `args` that fairseq would store with it.

    Args:
        seed (`int`, defaults to 7): of the weights.
        units (`int`, defaults to 20): of the dictionary.
        weight_std (`float`, defaults to 0.6): standard deviation of the matrices; it matters for what is said to vary.
        settings: of the architecture, over `SIZES`.
    """
    args = Namespace(
        arch="mbart_large",
        task="multilingual_denoising",
        langs=",".join(LANGUAGES),
        add_lang_token=True,
        **{**SIZES, **settings},
    )
    mbart_large_architecture(args)
    dictionary = make_dictionary(units)
    torch.manual_seed(seed)
    model = BARTModel.build_model(args, SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(std=0.2)
            else:
                value.normal_(std=4.0 if "positions" in name else weight_std)
    return model.eval(), args


@torch.no_grad()
def logits_of(model: BARTModel, source: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Teacher-forced logits `(B, N, V)`."""
    return model(source, source.ne(1).sum(1), said, features_only=False)[0]


@torch.no_grad()
def greedy(model: BARTModel, source: torch.Tensor, max_length: int = MAX_LENGTH) -> list[list[int]]:
    """What fairseq's own generator says: it starts and stops with the language, and begins with `<s>`."""
    dictionary = model.decoder.dictionary
    language = dictionary.index(f"[{LANGUAGES[0]}]")
    generator = SequenceGenerator([model], dictionary, beam_size=1, max_len_a=0, max_len_b=max_length, eos=language)
    sample = {"net_input": {"src_tokens": source, "src_lengths": source.ne(1).sum(1)}}
    prefix = torch.full((len(source), 1), dictionary.bos())
    return [rows[0]["tokens"].tolist() for rows in generator.generate([model], sample, prefix_tokens=prefix)]


def main() -> None:
    """Write the file beside this script."""
    tensors, metadata = {}, {}
    for variant, settings in VARIANTS.items():
        model, args = make_model(**settings)
        for name, value in model.state_dict().items():
            if name not in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
                tensors[f"{variant}/model/{name}"] = value.detach().clone()
        source, said = torch.tensor(SOURCE), torch.tensor(SAID)
        tensors["source"], tensors["said"] = source, said
        tensors[f"{variant}/logits"] = logits_of(model, source, said)
        plain = {key: value for key, value in vars(args).items() if isinstance(value, str | int | float | None)}
        metadata[variant] = json.dumps({"args": plain, "greedy": greedy(model, source)}, sort_keys=True)
    save_file(tensors, Path(__file__).with_name("unit_mbart.safetensors"), metadata=metadata)


if __name__ == "__main__":
    main()
