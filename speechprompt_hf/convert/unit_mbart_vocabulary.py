"""Which rows of a Unit mBART's embedding are units, languages and the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import VocabularyError
from ..core.vocabulary import SPECIAL_TOKENS, UnitVocabulary
from .dictionary_file import padded_size, read_symbols
from .errors import ConversionError

__all__ = ["MBartDictionary", "MBartRows", "find_rows", "read_mbart_dictionary"]

_MASK = "<mask>"


@dataclass(frozen=True)
class MBartDictionary:
    """A `dict.txt`.

    Args:
        name (`str`): of the file, for messages.
        vocabulary (`UnitVocabulary`): the units, in its order.
        num_symbols (`int`): units and made-up words.
        languages (`tuple[str, ...]`): those listed behind them.
        has_mask (`bool`): the mask is listed behind these.
    """

    name: str
    vocabulary: UnitVocabulary
    num_symbols: int
    languages: tuple[str, ...]
    has_mask: bool


@dataclass(frozen=True)
class MBartRows:
    """What the rows of an embedding are.

    Args:
        languages (`tuple[str, ...]`): in the order of their rows.
        first_language (`int`): the row of the first.
        has_mask (`bool`): the last row is the mask's.
        num_padded (`int`): rows of made-up words between units and languages.
    """

    languages: tuple[str, ...]
    first_language: int
    has_mask: bool
    num_padded: int

    def parts(self, num_units: int) -> list[slice]:
        """The rows that are kept: special tokens and units, then languages and mask."""
        behind = self.first_language + len(self.languages) + int(self.has_mask)
        return [slice(0, len(SPECIAL_TOKENS) + num_units), slice(self.first_language, behind)]


def read_mbart_dictionary(path: Path) -> MBartDictionary:
    """Read fairseq's `dict.txt`: units, made-up words, and perhaps `[language]` lines and `<mask>`.

    Raises:
        ConversionError: there is no such file, or it is no dictionary.
        VocabularyError: a line is no unit.
    """
    symbols = read_symbols(path)
    has_mask = symbols[-1:] == [_MASK]
    symbols = symbols[:-1] if has_mask else symbols
    languages: list[str] = []
    while symbols and symbols[-1].startswith("[") and symbols[-1].endswith("]"):
        languages.insert(0, symbols.pop()[1:-1])
    num_symbols = len(symbols)
    while symbols and symbols[-1].startswith("madeupword"):
        symbols.pop()
    if not symbols:
        raise VocabularyError(f"{path} lists no unit")
    try:
        vocabulary = UnitVocabulary(tuple(symbols))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {Exception.__str__(error)}", hint=error.hint) from error
    return MBartDictionary(str(path), vocabulary, num_symbols, tuple(languages), has_mask)


def find_rows(
    dictionary: MBartDictionary, num_rows: int, languages: Sequence[str] | None, name: str, *, may_lack_mask: bool
) -> MBartRows:
    """Say what the rows of an embedding are.

    Args:
        dictionary (`MBartDictionary`): what lists the units.
        num_rows (`int`): rows of the embedding.
        languages (`Sequence[str]`, *optional*): as the settings, or the caller, name them; the dictionary's by
            default.
        name (`str`): of the checkpoint, for messages.
        may_lack_mask (`bool`): the mask may have been cut off, as fairseq does for tasks whose dictionary has none.

    Raises:
        ConversionError: the dictionary, the languages and the number of rows do not fit each other in exactly one way.
    """
    if dictionary.languages and languages is not None and tuple(languages) != dictionary.languages:
        raise ConversionError(
            f"{name} names the languages {', '.join(languages)}, {dictionary.name} lists "
            f"{', '.join(dictionary.languages)}"[:400],
            hint="checkpoint and dictionary belong to different models",
        )
    known = tuple(dictionary.languages or languages or ())
    base = len(SPECIAL_TOKENS) + dictionary.num_symbols
    if not known:
        raise ConversionError(
            f"{name} names no languages; its embedding has {num_rows} rows, {dictionary.name} makes {base} tokens",
            hint="name them in the order of pretraining, languages=[…] (--language, repeated): their tokens follow "
            "the units",
        )
    if len(set(known)) != len(known) or not all(known):
        raise ConversionError(f"{name} names a language twice, or an empty one: {', '.join(known)}"[:300])
    bases = {base} if dictionary.languages else {base, padded_size(base)}
    fitting = [
        (first, has_mask)
        for first in sorted(bases)
        for has_mask in ((True, False) if may_lack_mask else (True,))
        if first + len(known) + int(has_mask) == num_rows and (has_mask or not dictionary.has_mask)
    ]
    if len(fitting) != 1:
        many = "fit in two ways" if fitting else "do not fit"
        raise ConversionError(
            f"encoder.embed_tokens.weight in {name} has {num_rows} rows; {base} tokens of {dictionary.name}, "
            f"{len(known)} languages ({', '.join(known)[:100]}) and a mask {many}",
            hint="a dict.txt has a line for each unit of its model; the languages are those of pretraining, all of "
            "them",
        )
    first, has_mask = fitting[0]
    num_padded = first - len(SPECIAL_TOKENS) - dictionary.vocabulary.num_units
    return MBartRows(known, first, has_mask, num_padded)
