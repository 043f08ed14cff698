"""How varied continuations are, of words or units: auto-BLEU, self-BLEU, VERT; and BLEU of what is heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from sacrebleu.metrics import BLEU

from ..core.errors import ConfigurationError
from ..tasks import normalize_text
from .sequence_metrics import sequence_score

__all__ = ["Diversity", "asr_bleu", "auto_bleu", "diversity", "self_bleu"]


@dataclass(frozen=True)
class Diversity:
    """How alike continuations are, within themselves and to each other; 0 to 100, and lower is more varied.

    Attributes:
        auto_bleu (`float`): mean over the continuations: how much each repeats itself.
        self_bleu (`float`): mean over the continuations: how much each is said by the others, too.
        vert (`float`): their geometric mean.
    """

    auto_bleu: float
    self_bleu: float
    vert: float


def auto_bleu(text: str, *, max_order: int = 2) -> float:
    """How much a text repeats itself.

    For each order n the share of its n-grams that occur again where they do not overlap; of the orders the geometric
    mean.

    Args:
        text (`str`): words, or units, with blanks between them.
        max_order (`int`, defaults to 2): orders 1 to `max_order`.

    Returns:
        `float`: 0 to 100; 0 of a text that is shorter than `max_order`.

    Raises:
        ConfigurationError: `max_order` is below 1.

    Source:
        Lakhotia et al. 2021 (arXiv 2102.01192, section 4), fairseq's `self_auto_bleu.py`, "Auto-BLEU2-geometric".
    """
    _check_order(max_order)
    words = text.split()
    shares = []
    for order in range(1, max_order + 1):
        number = len(words) - order + 1
        if number < 1 or len(words) < 2:
            return 0.0
        grams = [tuple(words[place : place + order]) for place in range(number)]
        first: dict[tuple[str, ...], int] = {}
        last: dict[tuple[str, ...], int] = {}
        for place, gram in enumerate(grams):
            first.setdefault(gram, place)
            last[gram] = place
        again = sum(place - first[gram] >= order or last[gram] - place >= order for place, gram in enumerate(grams))
        shares.append(again / number)
    return 100 * prod(shares) ** (1 / max_order)


def self_bleu(texts: Sequence[str], *, max_order: int = 2) -> list[float]:
    """How much each text is said by the others: its BLEU against all of them, without a penalty for brevity.

    Args:
        texts (`Sequence[str]` of length R): words, or units, with blanks between them.
        max_order (`int`, defaults to 2): orders 1 to `max_order` of sacrebleu's modified precisions, unsmoothed.

    Returns:
        `list[float]`: R values from 0 to 100.

    Raises:
        ConfigurationError: there are fewer than two texts, or `max_order` is below 1.

    Source:
        Zhu et al. 2018 (arXiv 1802.01886) and Lakhotia et al. 2021, "Self-BLEU2-geometric".
    """
    _check_order(max_order)
    if len(texts) < 2:
        raise ConfigurationError(
            f"self-BLEU of {len(texts)} text(s)", hint="each is compared with others: give several continuations"
        )
    metric = BLEU(max_ngram_order=max_order, tokenize="none", smooth_method="none", effective_order=False, force=True)
    values = []
    for number, text in enumerate(texts):
        others = [[other] for other in (*texts[:number], *texts[number + 1 :])]
        # A test set of one text: for a sentence sacrebleu advises orders that fit its length, each time anew.
        precisions = metric.corpus_score([text], others).precisions if text.split() else [0.0]
        values.append(prod(precisions) ** (1 / len(precisions)))
    return values


def diversity(texts: Sequence[str], *, max_order: int = 2) -> Diversity:
    """Auto-BLEU, self-BLEU and VERT of continuations.

    Args:
        texts (`Sequence[str]` of length R): a recogniser's transcripts, as in the paper, or units.
        max_order (`int`, defaults to 2): of both.

    Raises:
        ConfigurationError: there are fewer than two texts, or `max_order` is below 1.

    Source:
        Lakhotia et al. 2021 (arXiv 2102.01192, section 4): VERT is the geometric mean of the two.
    """
    between = self_bleu(texts, max_order=max_order)
    within = [auto_bleu(text, max_order=max_order) for text in texts]
    means = (sum(within) / len(within), sum(between) / len(between))
    return Diversity(*means, vert=prod(means) ** 0.5)


def asr_bleu(transcripts: Sequence[str], references: Sequence[str], *, normalization: str = "lower") -> float:
    """BLEU of what a recogniser hears in translated speech.

    Args:
        transcripts (`Sequence[str]` of length R): of the generated speech.
        references (`Sequence[str]` of length R): what was to be said, as text.
        normalization (`str`, defaults to `"lower"`): done to both; see `NORMALIZATIONS`.

    Returns:
        `float`: sacrebleu's, 0 to 100.

    Raises:
        ConfigurationError: there are none, or more of one than of the other.

    Source:
        Lee et al. 2022 (arXiv 2107.05604, section 4.3): speech is compared as the text that is heard.
    """
    wanted = [normalize_text(text, normalization) for text in references]
    return sequence_score("bleu", wanted, [normalize_text(text, normalization) for text in transcripts])


def _check_order(max_order: int) -> None:
    if max_order < 1:
        raise ConfigurationError(f"max_order is {max_order}", hint="at least 1")
