"""Units as text: the tokenizer of a unit language model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Number
from pathlib import Path
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizer

from ..core.errors import UnitError
from ..core.files import write_text
from ..core.vocabulary import EOS_TOKEN_ID, SEPARATOR_TOKEN_ID, SPECIAL_TOKENS, UnitVocabulary

__all__ = ["UnitTokenizer"]

DICTIONARY_FILE = "dict.txt"


class UnitTokenizer(PreTrainedTokenizer):
    """Tokens of units in fairseq's dictionary order; `"71 12 56"` is three units.

    Integers are units as well, never token ids: `tokenizer([[71, 12, 56], [4]], padding=True)`.

    With special tokens an utterance is `</s>` (2), its units, `<s>` (0): the language model starts from `</s>`, and
    `<s>` separates the utterance from its labels. `bos_token` names the separator and `eos_token` the start token, as
    in the model's config, so that `Trainer` finds nothing to align.

    Args:
        vocab_file (`str`, *optional*): fairseq's `dict.txt`, lines `symbol count`.
        vocabulary (`UnitVocabulary`, *optional*): the vocabulary itself; one of the two is needed.
    """

    vocab_files_names: dict[str, str] = {"vocab_file": DICTIONARY_FILE}  # noqa: RUF012
    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012 - as the base class declares it
    padding_side = "right"

    def __init__(self, vocab_file: str | None = None, vocabulary: UnitVocabulary | None = None, **kwargs: Any) -> None:
        if vocabulary is None:
            if vocab_file is None:
                raise UnitError(
                    "a unit tokenizer needs the dictionary dict.txt, and "
                    f"{kwargs.get('name_or_path') or 'its folder'} has none",
                    hint="open the base or an adapter of it, whose folders have one; in Python pass vocab_file or "
                    "vocabulary, or UnitTokenizer.from_num_units(number) for units in numeric order",
                )
            vocabulary = UnitVocabulary.from_dict_txt(vocab_file)
        self.vocabulary = vocabulary
        self._tokens = [*SPECIAL_TOKENS, *vocabulary.symbols]
        self._id_of_token = {token: index for index, token in enumerate(self._tokens)}
        separator, pad, eos, unk = SPECIAL_TOKENS
        defaults = {"bos_token": separator, "pad_token": pad, "eos_token": eos, "unk_token": unk}
        super().__init__(**{**defaults, **kwargs})

    @classmethod
    def from_num_units(cls, num_units: int) -> UnitTokenizer:
        """Tokenizer of the units 0 … `num_units` - 1 in numeric order."""
        return cls(vocabulary=UnitVocabulary.from_num_units(num_units))

    @property
    def vocab_size(self) -> int:
        """Number of token ids: K units and four special tokens."""
        return len(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        """Token to id, special tokens included."""
        return dict(self._id_of_token)

    def _encode_plus(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        # Integers would be taken for token ids, and the units four too low be read without a word.
        words = bool(kwargs.get("is_split_into_words"))
        pair = None if text_pair is None else _units_as_text(text_pair, words)
        return super()._encode_plus(_units_as_text(text, words), pair, **kwargs)

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return text.split()

    def _convert_token_to_id(self, token: str) -> int:
        index = self._id_of_token.get(token)
        if index is None:
            # A silent <unk> would train a model on nothing.
            raise UnitError(
                f"unit {token!r} is not among the {self.vocabulary.num_units} units of this vocabulary",
                hint="units and language model must come from the same quantizer",
            )
        return index

    def _convert_id_to_token(self, index: int) -> str:
        if not 0 <= index < len(self._tokens):
            raise UnitError(f"token id {index} is outside the vocabulary of {len(self._tokens)} tokens")
        return self._tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Units separated by blanks."""
        return " ".join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """`</s> units <s>`, and for a pair `</s> units <s> labels`."""
        return [EOS_TOKEN_ID, *token_ids_0, SEPARATOR_TOKEN_ID, *(token_ids_1 or [])]

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for special tokens, 0 for units."""
        ids = token_ids_0
        if not already_has_special_tokens:
            ids = self.build_inputs_with_special_tokens(token_ids_0, token_ids_1)
        return [int(index < len(SPECIAL_TOKENS)) for index in ids]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """All 0: the model knows no segments."""
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def input_ids(self, units: Iterable[Any]) -> list[int]:
        """Model input of one utterance of units: `[2, tokens…, 0]`.

        Raises:
            UnitError: a unit is not in the vocabulary.
        """
        return self.vocabulary.input_ids(units)

    def units_of(self, token_ids: Sequence[int]) -> list[int]:
        """Units of token ids; special tokens are left out."""
        return self.vocabulary.decode([int(index) for index in token_ids])

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str]:
        """Write `dict.txt`."""
        name = f"{filename_prefix}-{DICTIONARY_FILE}" if filename_prefix else DICTIONARY_FILE
        path = Path(save_directory) / name
        write_text(path, self.vocabulary.to_dict_txt())
        return (str(path),)


def _units_as_text(text: Any, words: bool) -> Any:
    """Text in the place of sequences of integers, words in that of texts where those are asked for."""
    if hasattr(text, "tolist"):  # arrays and tensors
        text = text.tolist()
    if not isinstance(text, list | tuple) or not text:
        return text
    if any(isinstance(unit, Number) for unit in text):
        wrong = [unit for unit in text if not isinstance(unit, Integral)]
        if wrong:
            raise UnitError(f"{str(wrong[0])[:60]!r} among integers is no unit", hint="units are integers from 0")
        units = [str(int(unit)) for unit in text]
        return units if words else " ".join(units)
    rows = [_units_as_text(row, words) for row in text]
    # An utterance without units, in a batch.
    return type(text)("" if isinstance(row, list) and not row and not words else row for row in rows)
