"""Weights of a stock language model over units as those of a wrapped base: names, order of rows, shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import GenerationConfig
from transformers import initialization as init

from ..core.errors import ConfigurationError
from ..core.vocabulary import SPECIAL_TOKENS
from .configuration_unit_causal_lm import UnitCausalLMConfig, kept_lm_values
from .embeddings import belongs_to_adapters
from .modeling_unit_causal_lm import UnitCausalLMForCausalLM
from .stock_unit_lm import StockUnitLM

__all__ = [
    "StockTensor",
    "StockWeights",
    "load_wrapped",
    "open_safetensors",
    "unit_generation_config",
    "wrapped_config",
]

_EMBEDDING, _HEAD, _BACKBONE = "model.embed_tokens.weight", "lm_head.weight", "model.backbone."
_COMPUTED = (".inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
_INCOMPLETE = "the files are incomplete, or come from different models"


@dataclass(frozen=True)
class StockTensor:
    """A tensor that is read when its turn comes.

    Attributes:
        key (`str`): its name in the file.
        shape (`tuple[int, ...]`): its shape.
        read (`Callable`): reads it.
        read_rows (`Callable`, *optional*): reads its rows from one index up to, and without, another; where it is
            missing the whole is read for them.
    """

    key: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    read_rows: Callable[[int, int], Tensor] | None = None

    def rows(self, first: int, end: int) -> Tensor:
        """The rows from `first` up to, and without, `end`."""
        return self.read()[first:end] if self.read_rows is None else self.read_rows(first, end)


def wrapped_config(stock: StockUnitLM) -> UnitCausalLMConfig:
    """The configuration of the base that a stock model becomes.

    Raises:
        ConfigurationError: the model cannot be wrapped.
    """
    return UnitCausalLMConfig(
        lm_config=kept_lm_values(stock.config),
        vocab_size=len(SPECIAL_TOKENS) + stock.num_units,
        has_start_token=stock.start_token_id is not None,
        # A head of its own where embeddings are narrower than layers: see `StockWeights`.
        tie_word_embeddings=stock.is_tied and not stock.projects,
        architectures=[UnitCausalLMForCausalLM.__name__],
    )


class StockWeights:
    """Which tensors of a stock model every weight of the base is made of.

    Rows of embedding and output head are put into the order of `UnitVocabulary`. Tokens that the model lacks get the
    mean of all units, so that their logits are the mean of those of units: finite, and never high. `<s>`, in whose
    place the separator is trained, starts as the model's own token after an utterance, if it has one.

    OPT-350M's embeddings are narrower than its layers: the projections between them are multiplied into embedding and
    output head, which gives the same logits up to rounding.

    Args:
        stock (`StockUnitLM`): the model.
        tensors (`Mapping[str, StockTensor]`): its weights by their names in the file.
        name (`str`): folder or Hub id, for messages.

    Attributes:
        config (`UnitCausalLMConfig`): of the base.
        parts (`dict[str, StockTensor]`): the weights of the base by their names.
        left_out (`dict[str, str]`): keys of the file that no weight is made of, with the reason.
        num_rows (`int`): rows of the model's embedding.

    Raises:
        ConfigurationError: a weight is missing, of another shape, or not known.
    """

    def __init__(self, stock: StockUnitLM, tensors: Mapping[str, StockTensor], name: str) -> None:
        self.stock, self.name = stock, name
        self.config = wrapped_config(stock)
        self.family = stock.family
        self._tensors = self._by_plain_names(tensors)
        self._used: set[str] = set()
        embedding = self._matrix(f"{self.family.embedding}.weight")
        self.num_rows = embedding.shape[0]
        self.parts = {part: self._part(part, shape, embedding) for part, shape in self._shapes().items()}
        self.left_out = self._unused(embedding)

    def _by_plain_names(self, tensors: Mapping[str, StockTensor]) -> dict[str, StockTensor]:
        """Tensors by their names in the base model; the head keeps its own."""
        prefix, found = self.stock.prefix, dict[str, StockTensor]()
        for key, tensor in tensors.items():
            if not key.startswith(prefix):
                raise ConfigurationError(f"{key} in {self.name} is no weight of a language model under {prefix!r}")
            plain = key.removeprefix(prefix)
            if plain != f"{self.family.head}.weight":
                plain = plain.removeprefix(self.family.prefix)
            if plain in found:
                raise ConfigurationError(f"{key} and {found[plain].key} in {self.name} are one weight")
            found[plain] = tensor
        return found

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            state = UnitCausalLMForCausalLM(self.config).state_dict()
        shapes = {key: tuple(value.shape) for key, value in state.items() if not belongs_to_adapters(key)}
        if self.config.tie_word_embeddings:
            shapes.pop(_HEAD)
        return shapes

    def _part(self, part: str, shape: tuple[int, ...], embedding: StockTensor) -> StockTensor:
        stock = self.stock
        if part == _EMBEDDING:
            if not stock.projects:
                return StockTensor(part, shape, lambda: _in_our_order(embedding, stock))
            project_in = self._take("decoder.project_in.weight", (shape[1], stock.embedding_width))
            return StockTensor(part, shape, lambda: _in_our_order(embedding, stock) @ project_in.read().float().T)
        if part == _HEAD:
            head = embedding if stock.is_tied else self._matrix(f"{self.family.head}.weight")
            if not stock.projects:
                return StockTensor(part, shape, lambda: _in_our_order(head, stock))
            project_out = self._take("decoder.project_out.weight", (stock.embedding_width, shape[1]))
            return StockTensor(part, shape, lambda: _in_our_order(head, stock) @ project_out.read().float())
        return self._take(part.removeprefix(_BACKBONE), shape)

    def _matrix(self, plain: str) -> StockTensor:
        """A matrix with a row a token."""
        tensor, stock = self._tensors.get(plain), self.stock
        rows = tensor.shape[0] if tensor is not None and len(tensor.shape) == 2 else stock.num_rows_needed
        matrix = self._take(plain, (rows, stock.embedding_width))
        for what in ("start_token_id", "end_token_id", "pad_token_id"):
            token = getattr(stock, what)
            if token is not None and token >= rows:
                raise ConfigurationError(
                    f"{what} is {token}, but {matrix.key} in {self.name} has {rows} rows",
                    hint=f"its tokens are 0 to {rows - 1}",
                )
        if rows < stock.num_rows_needed:
            raise ConfigurationError(
                f"{matrix.key} in {self.name} has {rows} rows, {stock.num_rows_needed} are needed for "
                f"{stock.num_units} units from token {stock.unit_offset} on",
                hint="the offset or the number of units belongs to another model",
            )
        return matrix

    def _take(self, plain: str, shape: tuple[int, ...]) -> StockTensor:
        tensor = self._tensors.get(plain)
        if tensor is None:
            raise ConfigurationError(f"{self.name} lacks the weight {plain}, of shape {shape}", hint=_INCOMPLETE)
        if tensor.shape != shape:
            raise ConfigurationError(
                f"{tensor.key} in {self.name} has shape {tensor.shape}, its config.json needs {shape}",
                hint=_INCOMPLETE,
            )
        self._used.add(plain)
        return tensor

    def _unused(self, embedding: StockTensor) -> dict[str, str]:
        left: dict[str, str] = {}
        for plain, tensor in self._tensors.items():
            if plain in self._used:
                continue
            if plain == f"{self.family.head}.weight":
                if tensor.shape != embedding.shape or _digest(tensor) != _digest(embedding):
                    raise ConfigurationError(
                        f"{tensor.key} in {self.name} differs from {embedding.key}, though config.json says that they "
                        "are one",
                        hint="tie_word_embeddings in config.json belongs to another model",
                    )
                left[tensor.key] = "the embedding, once more"
            elif plain.endswith(_COMPUTED):
                left[tensor.key] = "computed, not trained"
            else:
                raise ConfigurationError(
                    f"{tensor.key} in {self.name} is no weight of {self.family.model_type}",
                    hint="the file belongs to another architecture, or config.json to another model",
                )
        return left


def _digest(tensor: StockTensor) -> str:
    """Of a tensor's type and bytes: two that are compared are never in memory at once."""
    values = tensor.read().contiguous()
    content: Any = values.view(torch.uint8).numpy()
    return f"{values.dtype} {hashlib.sha256(content).hexdigest()}"


def _in_our_order(matrix: StockTensor, stock: StockUnitLM) -> Tensor:
    """Rows of `<s>`, `<pad>`, `</s>`, `<unk>` and the units, in float32."""
    units = matrix.rows(stock.unit_offset, stock.unit_offset + stock.num_units).float()
    mean = units.mean(0)

    def row(token: int | None) -> Tensor:
        return mean if token is None else matrix.rows(token, token + 1)[0].float()

    start, end = stock.start_token_id, stock.end_token_id
    special = [row(start if end is None else end), row(stock.pad_token_id), row(start), mean]
    return torch.cat([torch.stack(special), units])


@contextmanager
def open_safetensors(paths: Sequence[str]) -> Iterator[dict[str, StockTensor]]:
    """Tensors of one model's files by their names; only headers are read.

    Args:
        paths (`Sequence[str]`): the files.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    tensors: dict[str, StockTensor] = {}
    with ExitStack() as stack:
        for path in paths:
            try:
                file = stack.enter_context(safe_open(path, "pt"))
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ConfigurationError(
                    f"{path} cannot be read: {error}"[:300], hint="it is damaged: copy or download it again"
                ) from error
            tensors |= {key: _lazy(file, key, shape) for key, shape in shapes.items()}
        yield tensors


def _lazy(file: Any, key: str, shape: tuple[int, ...]) -> StockTensor:
    return StockTensor(key, shape, lambda: file.get_tensor(key), lambda first, end: file.get_slice(key)[first:end])


@torch.no_grad()
def load_wrapped(weights: StockWeights, attn_implementation: str | None = None) -> UnitCausalLMForCausalLM:
    """The base in memory, in float32; one tensor of the source is read at a time.

    Args:
        weights (`StockWeights`): of a stock model.
        attn_implementation (`str`, *optional*): `"sdpa"` or `"eager"`.

    Raises:
        ConfigurationError: a weight holds values that are not finite.
    """
    with init.no_init_weights():
        model = UnitCausalLMForCausalLM._from_config(
            weights.config, dtype=torch.float32, attn_implementation=attn_implementation or "sdpa"
        )
    places = model.state_dict()
    for name, part in weights.parts.items():
        values = part.read()
        if not values.is_floating_point() or not bool(torch.isfinite(values).all()):
            raise ConfigurationError(f"{part.key} of {weights.name} holds values that are not finite numbers")
        places[name].copy_(values)
    model.tie_weights()
    model.generation_config = unit_generation_config(weights.config)
    return model.eval()


def unit_generation_config(config: UnitCausalLMConfig) -> GenerationConfig:
    """How a wrapped model generates: without tokens that nothing was trained to predict.

    Args:
        config (`UnitCausalLMConfig`): of the base.
    """
    generation = GenerationConfig.from_model_config(config)
    kept = {config.eos_token_id} if config.has_start_token else set()
    generation.suppress_tokens = [token for token in range(len(SPECIAL_TOKENS)) if token not in kept]
    return generation
