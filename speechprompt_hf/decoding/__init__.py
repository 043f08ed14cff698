"""How sequences are said: constrained to a grammar, n-best with scores, as a stream of text."""

from .constraint import GrammarConstraint
from .grammar import TokenGrammar, grammar_of_parts, grammar_of_sequences, grammar_of_slots
from .hypotheses import Hypothesis, generate_hypotheses
from .streaming import stream_text

__all__ = [
    "GrammarConstraint",
    "Hypothesis",
    "TokenGrammar",
    "generate_hypotheses",
    "grammar_of_parts",
    "grammar_of_sequences",
    "grammar_of_slots",
    "stream_text",
]
