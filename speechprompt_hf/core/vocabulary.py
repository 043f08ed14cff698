"""The mapping between units and the token ids of a unit language model, in fairseq's dictionary order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UnitError, VocabularyError

__all__ = [
    "EOS_TOKEN_ID",
    "PAD_TOKEN_ID",
    "SEPARATOR_TOKEN_ID",
    "SPECIAL_TOKENS",
    "UNK_TOKEN_ID",
    "UnitVocabulary",
]

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
SEPARATOR_TOKEN_ID, PAD_TOKEN_ID, EOS_TOKEN_ID, UNK_TOKEN_ID = range(4)


@dataclass(frozen=True)
class UnitVocabulary:
    """Token ids of a unit language model: four special tokens, then the units in dictionary order.

    `<s>` (0) separates an utterance from its labels, `</s>` (2) starts and ends a sequence. A token id is **not**
    unit + 4 in general: the dictionaries of the released CPC models are sorted by frequency.

    Args:
        symbols (`tuple[str, ...]` of length K): the unit numbers as decimal strings, in dictionary order.

    Raises:
        VocabularyError: a symbol is no decimal number or occurs twice.

    Source:
        fairseq `data/dictionary.py`.
    """

    symbols: tuple[str, ...]
    _id_of_unit: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        id_of_unit: dict[int, int] = {}
        for position, symbol in enumerate(self.symbols):
            if not (symbol.isascii() and symbol.isdecimal()):
                raise VocabularyError(
                    f"symbol {symbol!r} in line {position + 1} is no unit number",
                    hint="each line is 'UNIT COUNT'",
                )
            if int(symbol) in id_of_unit:
                raise VocabularyError(f"unit {symbol} occurs twice, again in line {position + 1}")
            id_of_unit[int(symbol)] = position + len(SPECIAL_TOKENS)
        object.__setattr__(self, "_id_of_unit", id_of_unit)

    @classmethod
    def from_num_units(cls, num_units: int) -> UnitVocabulary:
        """Vocabulary of the units 0 … `num_units` - 1 in numeric order."""
        return cls(tuple(str(unit) for unit in range(num_units)))

    @classmethod
    def from_dict_txt(cls, path: str | Path) -> UnitVocabulary:
        """Read fairseq's `dict.txt` (lines `symbol count`); `madeupword` lines are padding and must come last.

        Raises:
            VocabularyError: the file has no unit or a malformed line.
        """
        symbols = [line.split()[0] for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        while symbols and symbols[-1].startswith("madeupword"):
            symbols.pop()
        if not symbols:
            raise VocabularyError(f"{path} lists no unit")
        return cls(tuple(symbols))

    def to_dict_txt(self) -> str:
        """The text of a `dict.txt` that `from_dict_txt` reads back."""
        return "".join(f"{symbol} 1\n" for symbol in self.symbols)

    @property
    def num_units(self) -> int:
        """Number of units K."""
        return len(self.symbols)

    def __len__(self) -> int:
        """Number of token ids: K units and four special tokens."""
        return len(self.symbols) + len(SPECIAL_TOKENS)

    def __contains__(self, unit: object) -> bool:
        return unit in self._id_of_unit

    def encode(self, units: Iterable[Any]) -> list[int]:
        """Token ids of units.

        Raises:
            UnitError: a unit is not in the vocabulary.
        """
        try:
            return [self._id_of_unit[int(unit)] for unit in units]
        except KeyError as error:
            raise UnitError(
                f"unit {error.args[0]} is not among the {self.num_units} units of this vocabulary",
                hint="units and language model must come from the same quantizer",
            ) from None

    def decode(self, token_ids: Sequence[int]) -> list[int]:
        """Units of token ids; special tokens are left out.

        Raises:
            UnitError: an id is outside the vocabulary.
        """
        units = []
        for token_id in token_ids:
            if not 0 <= token_id < len(self):
                raise UnitError(f"token id {token_id} is outside the vocabulary of {len(self)} tokens")
            if token_id >= len(SPECIAL_TOKENS):
                units.append(int(self.symbols[token_id - len(SPECIAL_TOKENS)]))
        return units

    def input_ids(self, units: Iterable[Any]) -> list[int]:
        """The model input of one utterance: `</s>`, the units, `<s>`.

        Source:
            SpeechPrompt: the language model starts from `</s>`; `<s>` separates the utterance from its labels.
        """
        return [EOS_TOKEN_ID, *self.encode(units), SEPARATOR_TOKEN_ID]
