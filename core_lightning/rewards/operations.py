"""Operation signature of a derivation: which of about 18 mathematical operations its text shows (CORE, Eq. 13)."""

from __future__ import annotations

import re

_PATTERNS: dict[str, str] = {
    "addition": r"[\w)}] ?\+|\b(?:add(?:s|ed|ing|ition)?|sum(?:s|med|ming)?|plus|total(?:s|ling)?)\b",
    # A hyphen joins words and a dash parts clauses: only a sign before a number or a bracket subtracts.
    "subtraction": r"[\w)}] [-−] [\d(\\]|[\d)}][-−][\d(\\]"
    r"|\b(?:subtract(?:s|ed|ing|ion)?|minus|difference|take away)\b",
    "multiplication": r"[×⋅·]|\\times|\\cdot|\d ?\* ?\w|\w ?\* ?\d"
    r"|\b(?:multipl(?:y|ies|ied|ying|ication)|times|product)\b",
    "division": r"÷|\\div|[\w)] / [\w(]|\b(?:divid(?:e|es|ed|ing)|division|quotient)\b",
    "fraction": r"\\[dt]?frac|\d/\d|\b(?:fractions?|numerators?|denominators?|half|thirds?|quarters?)\b",
    "power": r"[\w)}]\^|[²³]|\d\*\*|\b(?:(?:squar|cub)(?:e(?! root)|es|ed|ing)|powers?|exponents?)\b",
    "root": r"√|\\sqrt|\b(?:square|cube) roots?\b",
    "logarithm": r"\\(?:log|ln)\b|\b(?:log|ln)\b|\blogarithms?\b",
    "percentage": r"\d ?\\?%|\bper ?cent(?:age)?s?\b",
    "ratio": r"\d:\d|\b(?:ratios?|proportion(?:s|al)?|rates?)\b",
    "average": r"\b(?:averages?|medians?|arithmetic mean|mean of)\b",
    "equation": r"\b(?:equations?|solv(?:e|es|ed|ing) for|unknowns?|let \w (?:be|=))",
    "substitution": r"\b(?:substitut(?:e|es|ed|ing|ion)|plug(?:s|ged|ging)? in)\b",
    "factoring": r"\bfactor(?:s|ed|ing|i[sz]e|i[sz]ation)?\b",
    "expansion": r"\b(?:expand(?:s|ed|ing)?|expansion|distribut(?:e|es|ed|ing|ive)|foil)\b",
    "inequality": r"[\w)}] [<>]=? [\w(\\]|\d[<>]=?\d|[≤≥≠]|\\(?:le|ge|leq|geq|lt|gt)\b"
    r"|\b(?:inequalit(?:y|ies)|at (?:least|most))\b",
    "modular arithmetic": r"≡|\\(?:bmod|pmod|equiv)\b|\b(?:mod(?:ulo)?|remainders?|congruent)\b",
    "case analysis": r"\bcases? (?:\d|[ivx]+\b|analysis)|\b(?:first|second|other|each|either|both) cases?\b",
}

OPERATIONS: dict[str, re.Pattern[str]] = {name: re.compile(text, re.IGNORECASE) for name, text in _PATTERNS.items()}
"""Name and pattern of every operation; no pattern has nested repetition, so matching is linear in the text."""


def operation_signature(text: str) -> frozenset[str]:
    """Names of the operations that a text shows.

    >>> sorted(operation_signature("First 3 + 4 = 7, then divide by 2."))
    ['addition', 'division']
    """
    return frozenset(name for name, pattern in OPERATIONS.items() if pattern.search(text))
