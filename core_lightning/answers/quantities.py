"""Exact numbers, read without evaluating anything: integers, decimals, fractions, percentages, units or none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from core_lightning.answers.notation import plain_notation, undelimited

MAX_NUMBER_CHARS = 400
"""A longer text is not read as a number."""
MAX_EXPONENT = 400
MAX_UNIT_WORDS = 6

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""
    (?P<sign>[+-]?)\s*
    (?:(?P<currency>(?:US)?\$|[€£¥]|USD\b|EUR\b|Rs\.?(?![A-Za-z]))\s*(?P<inner>-?))?
    (?:
        (?P<whole>\d+\s*(?=\\)|\d+\s+)?
        (?:\\frac\s*(?:\{{\s*(?P<minus>-?)\s*(?P<n1>{_DECIMAL})\s*\}}|(?P<n2>\d))\s*
                    (?:\{{\s*(?P<d1>{_DECIMAL})\s*\}}|(?P<d2>\d))
          |(?P<n3>{_DECIMAL})\s*/\s*(?P<d3>{_DECIMAL}))
      |
        (?P<decimal>{_DECIMAL})
        (?:[eE](?P<e1>[+-]?\d{{1,3}})(?![\dA-Za-z])
          |\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*(?P<e2>[+-]?\d{{1,3}})\s*\}}|(?P<e3>[+-]?\d{{1,3}})))?
    )
    (?P<rest>.*)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_POWER = re.compile(
    r"(?P<base>-?\d{1,9}|\(-?\d{1,9}\))\s*\^\s*(?:\{\s*(?P<e1>-?\d{1,3})\s*\}|(?P<e2>-?\d{1,3}))", re.ASCII
)
_REPEATING = re.compile(
    r"(?P<whole>\d{0,30})\.(?P<fixed>\d{0,30})\\overline\s*(?:\{\s*(?P<period>\d{1,30})\s*\}|(?P<digit>\d))", re.ASCII
)
_INLINE_MATH = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$")
_CURRENCIES = {"$": "dollar", "us$": "dollar", "usd": "dollar", "€": "euro", "eur": "euro", "£": "pound", "¥": "yen"}
_ONE = Fraction(1)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_RATIOS = {"%": Fraction(1, 100), "percent": Fraction(1, 100), "pct": Fraction(1, 100), "dozen": Fraction(12)}
# A unit glued to its number, or one of two letters, must be known; otherwise 2xy would be two of something.
_SHORT_UNITS = re.compile(
    r"[mcdkn]m|km/h|mi/h|m/s|ft|in|yd|mi|lbs?|oz|[km]g|gm|gal|[mck]l|mph|kph|kmh|hrs?|h|mins?|secs?|[mn]s|[ap]m|[kmgt]b|"
    r"[km]?hz|[km]w|cc|sq|cu|st|nd|rd|th|usd|eur|(?:[cmk]?m|ft|in)\^\{?[23]\}?"
)
_NOT_A_UNIT = re.compile(
    r"or|and|not?|nor|but|is|are|was|were|isn|be|been|to|than|then|plus|minus|times|over|divided|by|if|maybe|perhaps|"
    r"either|neither|both|more|less|fewer|greater|wrong|incorrect|instead|half|third|quarter|pi|sqrt|sin|cos|tan|cot|sec|"
    r"csc|log|ln|exp|mod|squared|cubed|factorial|inf|infinity|infty|frac|theta|alpha|beta|cdot|div|sum|prod|lim|max|det|gcd|lcm"
)
_WORDS = re.compile(r"[^\W\d_]+(?:[/'-][^\W\d_]+)*\.?(?:\^\{?[23]\}?)?|°[CF]?|%")
_TEXT_UNIT = re.compile(r"\\(?:text|mathrm|mbox|textrm|rm)\s*\{(?P<unit>[^{}\d]*)\}\s*(?P<power>\^\{?[23]\}?)?\s*\.?$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One exact number as somebody wrote it."""

    value: Fraction
    """The number, scale words included: 2 million is 2000000."""
    ratio: Fraction = _ONE
    """What a percent sign or "dozen" would multiply the number by; 1 without."""
    unit: str = ""
    """First word of the unit in the singular, a currency by name; empty without."""

    def __str__(self) -> str:
        return str(self.value)


@lru_cache(maxsize=8192)
def parse_quantity(text: str) -> Quantity | None:
    r"""Read a text that is one number and nothing else but its sign, currency, percent sign or unit.

    Thousands separators must stand where they belong; a European decimal comma is not read.

    >>> parse_quantity(r"-\$1,250.50 per day")
    Quantity(value=Fraction(-2501, 2), ratio=Fraction(1, 1), unit='dollar')
    >>> parse_quantity(r"2\tfrac12").value, parse_quantity("２５ ％").ratio
    (Fraction(5, 2), Fraction(1, 100))
    >>> [parse_quantity(text) for text in (r"2\sqrt3", "2x", "1,00", "3 or 4", "1/0", "x")]
    [None, None, None, None, None, None]
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    text = _INLINE_MATH.sub(r"\1", undelimited(text))
    dressed = _TEXT_UNIT.search(text) if "\\" in text else None
    marked = ""
    if dressed and text[: dressed.start()].strip():
        text, marked = text[: dressed.start()], " " + dressed["unit"] + (dressed["power"] or "")
    text = plain_notation(text)
    while text[:1] + text[-1:] in ("()", "{}") and "," not in text:
        text = text[1:-1].strip()
    if power := _POWER.fullmatch(text):
        return _power(power)
    if "overline" in text:
        text = _REPEATING.sub(_as_fraction, text)
    match = _NUMBER.fullmatch(text)
    value = _magnitude(match) if match else None
    if match is None or value is None:
        return None
    rest = match["rest"]
    # \text{ m} says that m is a unit, where a bare m could be a variable.
    unit = _unit(marked, known=True) if marked and not rest.strip(" .") else _unit(rest + marked)
    if unit is None:
        return None
    scale, ratio, name = unit
    currency = (match["currency"] or "").lower().rstrip(".")
    return Quantity(value if scale is _ONE else value * scale, ratio, _CURRENCIES.get(currency, currency) or name)


def same_quantity(a: Quantity, b: Quantity) -> bool:
    """Whether two numbers are equal, exactly.

    A unit counts only when both have one. A percent sign (or "dozen") that only one of them has may be read as a unit
    or as a factor: 50% equals 50 and 1/2, and 0.5% is not 50%.

    >>> half, fifty, percent = map(parse_quantity, ("0.5", "50", "50%"))
    >>> same_quantity(half, percent), same_quantity(fifty, percent), same_quantity(half, fifty)
    (True, True, False)
    """
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if a.ratio == b.ratio:
        return a.value == b.value
    return bool({a.value, a.value * a.ratio} & {b.value, b.value * b.ratio})


def _power(match: re.Match[str]) -> Quantity | None:
    """10^3 as the number it is; -2^2 is left to computer algebra."""
    base, exponent = match["base"], int(match["e1"] or match["e2"])
    number = int(base.strip("()"))
    if base.startswith("-") or abs(exponent) > MAX_EXPONENT or (not number and exponent <= 0):
        return None
    return Quantity(Fraction(number) ** exponent)


def _as_fraction(match: re.Match[str]) -> str:
    r"""0.1\overline{6} as the fraction it is."""
    fixed, period = match["fixed"], match["period"] or match["digit"]
    under = 10 ** len(fixed) * (10 ** len(period) - 1)
    over = int((match["whole"] or "0") + fixed) * (10 ** len(period) - 1) + int(period)
    return f"{over}/{under}"


def _magnitude(match: re.Match[str]) -> Fraction | None:
    """Signed value of the digits, or None for a zero denominator or an absurd exponent."""

    def number(digits: str) -> Fraction:
        return Fraction(digits.replace(",", "").rstrip(".") or "0")

    if match["decimal"] is not None:
        exponent = int(match["e1"] or match["e2"] or match["e3"] or 0)
        if abs(exponent) > MAX_EXPONENT:
            return None
        value = number(match["decimal"])
        if exponent:
            value *= Fraction(10) ** exponent
    else:
        denominator = number(match["d1"] or match["d2"] or match["d3"])
        if not denominator:
            return None
        value = number(match["n1"] or match["n2"] or match["n3"]) / denominator
        if match["minus"]:
            value = -value
        if match["whole"]:
            value += int(match["whole"])
    return -value if (match["sign"] == "-") != (match["inner"] == "-") else value


def _unit(rest: str, known: bool = False) -> tuple[Fraction, Fraction, str] | None:
    """Scale, ratio and name of the unit behind a number; None when the rest is no unit.

    Args:
        rest: What follows the number; it starts with a space unless it is glued to it.
        known: The text was marked as words, so that a single letter is a unit too.
    """
    glued = not rest[:1].isspace()
    rest = rest.strip().rstrip(".")
    scale = ratio = _ONE
    if not rest or rest in _CURRENCIES:
        return scale, ratio, _CURRENCIES.get(rest, "")
    words = [word.lower() for word in _WORDS.findall(rest)]
    if not words or len(words) > MAX_UNIT_WORDS or _WORDS.sub("", rest).strip():
        return None
    if words[0] in _SCALES:
        scale, glued = Fraction(_SCALES[words.pop(0)]), False
    if words and words[0] in _RATIOS:
        ratio, glued = _RATIOS[words.pop(0)], False
    if not words:
        return scale, ratio, ""
    first = words[len(words) > 1 and words[0] in ("a", "an")].rstrip(".")  # 12 a day
    is_unit = known or first.startswith("°") or (len(first) > 2 and not glued) or _SHORT_UNITS.fullmatch(first)
    if not is_unit or any(_NOT_A_UNIT.fullmatch(word) for word in (first, *words[1:])):
        return None
    name = first.removesuffix("s") if len(first) > 3 else first
    return scale, ratio, _CURRENCIES.get(name, name)
