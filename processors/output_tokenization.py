"""Output vocabularies: tokenizers of characters, subwords, phones or slots, made from the texts of a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ..core.errors import ConfigurationError, LabelError
from ..core.output_patterns import ANY_CHARACTER, BLANKS
from ..core.vocabulary import EOS_TOKEN_ID, SPECIAL_TOKENS, UNK_TOKEN_ID

__all__ = ["OutputKind", "build_output_tokenizer"]

OutputKind = Literal["characters", "words", "subwords"]

_BLANK = "▁"
# What Python's str.split takes for blanks.
_BLANKS = Regex(BLANKS)


def build_output_tokenizer(
    texts: Iterable[str], kind: OutputKind = "characters", *, num_subwords: int = 500
) -> PreTrainedTokenizerFast:
    """A tokenizer of what a model is to say, made from the texts of the training rows.

    `tokenizer(text).input_ids` are tokens that end with `</s>`; `tokenizer.decode(ids, skip_special_tokens=True)` is
    the text again. Blanks at the ends of a text and several in a row are one.

    Args:
        texts (`Iterable[str]`): texts; for `"words"` symbols with blanks between them, such as phones or slots.
        kind (`str`, defaults to `"characters"`): `"characters"`; `"words"`: whatever stands between blanks;
            `"subwords"`: byte-pair encoding.
        num_subwords (`int`, defaults to 500): the most tokens of `"subwords"`, special ones and characters included.

    Returns:
        `PreTrainedTokenizerFast`: `<s>`, `<pad>`, `</s>` and `<unk>` are its first tokens.

    Raises:
        ConfigurationError: there is no such kind, or too few subwords.
        LabelError: no text has anything in it, or a text holds a special token.
    """
    rows = [" ".join(text.split()) for text in texts]
    symbols = sorted({symbol for row in rows for symbol in (row.split() if kind == "words" else row)})
    if not symbols:
        raise LabelError("no text has anything in it", hint="give the texts of the training rows")
    for token in SPECIAL_TOKENS:
        if any(token in row for row in rows):
            raise LabelError(f"a text holds {token!r}, which is a special token", hint="take it out of the texts")
    if kind == "words":
        tokenizer = _of_symbols(symbols, pre_tokenizers.WhitespaceSplit(), None)
    elif kind == "characters":
        tokenizer = _of_symbols(symbols, pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated"), decoders.Fuse())
    elif kind == "subwords":
        tokenizer = _of_subwords(rows, symbols, num_subwords)
    else:
        raise ConfigurationError(f"kind is {kind!r}", hint="'characters', 'words' or 'subwords'")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(_BLANKS, " "), normalizers.Strip()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {SPECIAL_TOKENS[EOS_TOKEN_ID]}",
        special_tokens=[(SPECIAL_TOKENS[EOS_TOKEN_ID], EOS_TOKEN_ID)],
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _of_symbols(symbols: list[str], split: pre_tokenizers.PreTokenizer, decoder: decoders.Decoder | None) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *symbols])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[UNK_TOKEN_ID]))
    tokenizer.pre_tokenizer = split
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _of_subwords(rows: list[str], symbols: list[str], size: int) -> Tokenizer:
    alphabet = sorted({symbol.replace(" ", _BLANK) for symbol in symbols} | {_BLANK})
    least = len(SPECIAL_TOKENS) + len(alphabet)
    if size < least:
        raise ConfigurationError(
            f"num_subwords is {size}; special tokens and characters alone are {least}", hint=f"at least {least}"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK_TOKEN_ID]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK)
    tokenizer.decoder = decoders.Metaspace(replacement=_BLANK)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(rows, trainer)
    return tokenizer
