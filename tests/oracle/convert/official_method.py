"""The official method, slowly, on fairseq's own modules: prompted decoder, separator, verbalizers, greedy decoding.

Written from the description of SpeechPrompt v1 and v2; needs fairseq, and none of our package.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fairseq import search
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerDecoder
from fairseq.models.transformer_lm import TransformerLanguageModel, transformer_lm_big
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor, nn

SEPARATOR, PAD, START = 0, 1, 2


def load_dictionary(path: Path) -> Dictionary:
    """fairseq's reading of a `dict.txt`."""
    return Dictionary.load(str(path))


def language_model_settings(width: int, inner: int, layers: int, heads: int, **changes: Any) -> Namespace:
    """Settings of GSLM's architecture in other sizes, filled up as fairseq does it."""
    settings = Namespace(
        arch="transformer_lm_big",
        decoder_embed_dim=width,
        decoder_ffn_embed_dim=inner,
        decoder_layers=layers,
        decoder_attention_heads=heads,
        share_decoder_input_output_embed=True,
        tokens_per_sample=3072,
        dropout=0.1,
        attention_dropout=0.1,
        **changes,
    )
    transformer_lm_big(settings)
    return settings


def random_language_model(settings: Namespace, dictionary: Dictionary, seed: int = 0, std: float = 0.3) -> Any:
    """fairseq's own language model of random weights; normalizations stay near what they start as."""
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = TransformerLanguageModel.build_model(settings, task).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if "layer_norm" in name:
                parameter.copy_(float(name.endswith("weight")) + 0.1 * values)
            else:
                parameter.copy_(std * values)
        model.decoder.embed_tokens.weight[PAD] = 0
    return model


class PromptedLayer(TransformerDecoderLayerBase):
    """A decoder layer that puts raw vectors in the place of the first columns' normalised states, for keys and values.

    Queries, the residual stream and everything behind attention are the layer's own.
    """

    key_prompt: Tensor | None = None
    value_prompt: Tensor | None = None

    def forward(self, x: Tensor, *args: Any, self_attn_mask: Tensor, self_attn_padding_mask: Any, **_: Any) -> Any:
        states = self.self_attn_layer_norm(x)
        key_input, value_input = states.clone(), states.clone()
        if self.key_prompt is not None:
            key_input[: len(self.key_prompt)] = self.key_prompt.unsqueeze(1)
            value_input[: len(self.value_prompt)] = self.value_prompt.unsqueeze(1)
        attended, _ = self.self_attn(
            query=states,
            key=key_input,
            value=value_input,
            key_padding_mask=self_attn_padding_mask,
            need_weights=False,
            attn_mask=self_attn_mask,
        )
        x = x + attended
        return x + self.fc2(self.activation_fn(self.fc1(self.final_layer_norm(x)))), None, None


class PromptedDecoder(TransformerDecoder):
    """fairseq's decoder with dummy columns in front, a trained separator, and where there is one a map of the logits.

    Args:
        settings (`Namespace`): of the language model.
        dictionary (`Dictionary`): its dictionary.
        prompt (`dict`): trained tensors under the names of a prompt checkpoint.
    """

    def __init__(self, settings: Namespace, dictionary: Dictionary, prompt: dict[str, Tensor]) -> None:
        embedding = TransformerLanguageModel.build_embedding(settings, dictionary, settings.decoder_embed_dim)
        super().__init__(settings, dictionary, embedding, no_encoder_attn=True)
        self.prefix = prompt["decoder.prefix_embed_prompts.weight"]
        self.separator = prompt["decoder.sep_embed.weight"][0]
        self.verbalizer = prompt.get("decoder.prompt_linear_verbalizer.weight")
        for index, layer in enumerate(self.layers):
            layer.key_prompt = prompt.get(f"decoder.deep_key_embed_prompts.{index}.weight")
            layer.value_prompt = prompt.get(f"decoder.deep_value_embed_prompts.{index}.weight")

    def build_decoder_layer(self, cfg: Any, no_encoder_attn: bool = False) -> PromptedLayer:
        return PromptedLayer(cfg, no_encoder_attn)

    def forward(self, prev_output_tokens: Tensor, **_: Any) -> tuple[Tensor, dict[str, Any]]:
        """Logits `(B, P + n, V)`, or class scores `(B, P + n, C + 4)`, always from the first column on: no cache."""
        logits = self.unit_logits(prev_output_tokens)
        return (logits if self.verbalizer is None else logits @ self.verbalizer.T), {"attn": [None]}

    def unit_logits(self, tokens: Tensor) -> Tensor:
        vectors = self.embed_tokens(tokens)
        vectors = torch.where((tokens == SEPARATOR).unsqueeze(-1), self.separator, vectors)
        vectors = self.embed_scale * vectors + self.embed_positions(tokens)
        # Prompt vectors are not scaled and have no positions; those of the tokens are as without a prompt.
        x = torch.cat([self.prefix.expand(len(tokens), -1, -1), vectors], dim=1).transpose(0, 1)
        dummies = tokens.new_full((len(tokens), len(self.prefix)), SEPARATOR)
        padding = torch.cat([dummies, tokens], dim=1).eq(PAD)
        for layer in self.layers:
            x, _, _ = layer(
                x,
                self_attn_mask=self.buffered_future_mask(x),
                self_attn_padding_mask=padding if bool(padding.any()) else None,
            )
        return self.output_layer(self.layer_norm(x).transpose(0, 1))


class PromptedLanguageModel(TransformerLanguageModel):
    """A model as fairseq's generator wants one."""

    def max_positions(self) -> int:
        return 100_000


def prompted(settings: Namespace, dictionary: Dictionary, language_model: Any, prompt: dict[str, Tensor]) -> Any:
    """The prompted decoder with the weights of a language model, all of them and no other."""
    decoder = PromptedDecoder(settings, dictionary, prompt)
    decoder.load_state_dict(language_model.decoder.state_dict(), strict=True)
    return PromptedLanguageModel(decoder).eval()


@torch.no_grad()
def scores_after(model: Any, tokens: Sequence[int]) -> Tensor:
    """What the model says after `tokens`: `(V,)`, or `(C + 4,)` with a linear verbalizer."""
    return model.decoder(torch.tensor([list(tokens)]))[0][0, -1]


@torch.no_grad()
def unit_logits(model: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Logits `(n, V)` of each row's tokens, the rows padded on the right in one batch."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
    logits = model.decoder.unit_logits(tokens)[:, len(model.decoder.prefix) :]
    return [values[: len(row)] for values, row in zip(logits, rows, strict=True)]


Choose = Callable[[Tensor, list[int]], int]


def slow_greedy(model: Any, tokens: Sequence[int], num_labels: int, choose: Choose) -> list[int]:
    """Decoding as the public code runs it: every source token is forced after a full pass whose answer is thrown away.

    Args:
        model: from `prompted`.
        tokens (`Sequence[int]`): start, units, separator.
        num_labels (`int`): tokens to predict.
        choose (`Callable`): picks from scores and the labels said so far; what it picks is fed back as a token.
    """
    said: list[int] = []
    for length in range(1, len(tokens) + num_labels):
        current = [*tokens, *said][:length]
        predicted = choose(scores_after(model, current), said)
        if length >= len(tokens):
            said.append(predicted)
    return said


def unrestricted(scores: Tensor, said: list[int]) -> int:
    """Upstream's choice among everything; fairseq's generator never takes the padding."""
    return int(scores.argmax())


def among(sequences: Sequence[Sequence[int]]) -> Choose:
    """The best of what continues a known sequence; ties by the lower token."""

    def choose(scores: Tensor, said: list[int]) -> int:
        possible = sorted({each[len(said)] for each in sequences if list(each[: len(said)]) == said})
        return max(possible, key=lambda token: float(scores[token]))

    return choose


@torch.no_grad()
def linear_loop(model: Any, tokens: Sequence[int], max_labels: int) -> list[int]:
    """v2's loop for linear verbalizers: the class index is fed back as a token, and index 2 ends; class indices."""
    said: list[int] = []
    while len(said) < max_labels:
        predicted = int(scores_after(model, [*tokens, *said]).argmax())
        if predicted == START:
            break
        said.append(predicted)
    return said


@torch.no_grad()
def generate(model: Any, dictionary: Dictionary, rows: Sequence[Sequence[int]], num_new: int) -> list[list[int]]:
    """fairseq's own generator as v1 and v2 call it: sampling from the best one, sources as forced prefixes.

    Returns:
        `list[list[int]]`: up to `num_new` tokens that follow each row, without what follows `</s>`.
    """
    longest = max(map(len, rows))
    sources = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
    generator = SequenceGenerator(
        [model],
        dictionary,
        beam_size=1,
        # The limit counts the source, and leaves room for one token less than it says.
        max_len_b=longest + num_new + 1,
        search_strategy=search.Sampling(dictionary, sampling_topk=1),
    )
    sample = {"net_input": {"src_tokens": sources, "src_lengths": torch.tensor([len(row) for row in rows])}}
    found = generator.generate([model], sample, prefix_tokens=sources[:, 1:], bos_token=START)
    return [
        hypotheses[0]["tokens"].tolist()[len(row) - 1 :][:num_new] for hypotheses, row in zip(found, rows, strict=True)
    ]


def random_prompt(
    kind: str, width: int, layers: int, vocab: int, columns: int, num_classes: int | None, seed: int
) -> dict[str, Tensor]:
    """Trained tensors of random values as the trainer keeps them, the separator smaller than it starts."""
    modules = nn.ModuleDict(
        {"prefix_embed_prompts": nn.Embedding(columns, width), "sep_embed": nn.Embedding(1, width)}
    )
    if kind == "deep":
        for what in ("key", "value"):
            modules[f"deep_{what}_embed_prompts"] = nn.ModuleList(nn.Embedding(columns, width) for _ in range(layers))
    if num_classes is not None:
        modules["prompt_linear_verbalizer"] = nn.Linear(vocab, num_classes + 4, bias=False)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in modules.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator)
        scale = {"sep_embed.weight": 0.1, "prompt_linear_verbalizer.weight": vocab**-0.5}.get(name, 0.5)
        state[f"decoder.{name}"] = values * scale
    return state


@torch.no_grad()
def greedy_batch(model: Any, rows: Sequence[Sequence[int]], num_labels: int, choose: Choose) -> list[list[int]]:
    """`slow_greedy` of many rows from their separators on: what comes before has no influence on the outcome."""
    longest = max(map(len, rows)) + num_labels
    tokens = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
    said: list[list[int]] = [[] for _ in rows]
    for step in range(num_labels):
        scores = model.decoder(tokens)[0][:, len(model.decoder.prefix) :]
        for index, row in enumerate(rows):
            predicted = choose(scores[index, len(row) - 1 + step], said[index])
            said[index].append(predicted)
            tokens[index, len(row) + step] = predicted
    return said
