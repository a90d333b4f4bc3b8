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
    (?:(?P<currency>(?:US)?\$|[€£¥₹₩₽₱₦₺₪₫฿]|(?:USD|EUR|GBP|INR)\b|Rs\.?(?![A-Za-z]))\s*(?P<inner>-?))?
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
_CURRENCIES = {
    **dict.fromkeys(("$", "us$", "usd"), "dollar"),
    **dict.fromkeys(("€", "eur"), "euro"),
    **dict.fromkeys(("£", "gbp"), "pound"),
    **dict.fromkeys(("₹", "rs", "inr"), "rupee"),
    "¥": "yen",
    "¢": "cent",
}
_ONE = Fraction(1)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_RATIOS = {"%": Fraction(1, 100), "percent": Fraction(1, 100), "pct": Fraction(1, 100), "dozen": Fraction(12)}
# One letter is a unit where a number is asked for, and a variable elsewhere; in capitals it may be a million or a thousand.
_LETTER_UNIT = re.compile(r"[mgslhLJNVW](?:\^\{?[23]\}?)?")
_SAME_UNITS = {
    short: name
    for name, shorts in {
        "meter": "m metre", "kilometer": "km kilometre", "centimeter": "cm centimetre", "millimeter": "mm millimetre",
        "foot": "ft feet", "inch": "in inche", "yard": "yd", "mile": "mi", "gram": "g gm", "kilogram": "kg", "ounce": "oz",
        "pound": "lb lbs", "liter": "l litre", "milliliter": "ml millilitre", "hour": "h hr hrs", "minute": "min mins",
        "second": "s sec secs", "gallon": "gal",
    }.items()
    for short in shorts.split()
}  # fmt: skip
# A unit glued to its number, or one of two letters, must be known; otherwise 2xy would be two of something.
_SHORT_UNITS = re.compile(
    r"[mcdkn]m|km/h|mi/h|m/s|ft|in|yd|mi|lbs?|oz|[km]g|gm|gal|[mck]l|mph|kph|kmh|hrs?|h|mins?|secs?|[mn]s|[ap]m|[kmgt]b|"
    r"[km]?hz|[km]w|cc|sq|cu|st|nd|rd|th|usd|eur|gbp|inr|rs|(?:[cmk]?m|ft|in)\^\{?[23]\}?"
)
_NOT_A_UNIT = re.compile(
    r"or|and|not?|nor|but|is|are|was|were|isn|be|been|to|than|then|plus|minus|times|over|divided|by|if|maybe|perhaps|"
    r"either|neither|both|more|less|fewer|greater|wrong|incorrect|instead|half|third|quarter|pi|sqrt|sin|cos|tan|cot|sec|"
    r"csc|log|ln|exp|mod|squared|cubed|factorial|inf|infinity|infty|frac|theta|alpha|beta|cdot|div|sum|prod|lim|max|det|gcd|lcm"
)
_NUMERAL = re.compile(
    r"thirds|fourths|(?:fif|six|seven|eigh|nin|ten)ths?|hundredths?|thousandths?|two|three|four|five|six|seven|eight|nine|"
    r"tens?|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teens?|twenty|thirty|fou?rty|fifty|sixty|seventy|eighty|ninety|"
    r"hundreds|thousands|millions|billions|trillions|dozens"
)
"""A unit begins with none of them: 6 tens, 6 thirds, 6 seven."""
_WORDS = re.compile(r"[^\W\d_]+(?:[/'-][^\W\d_]+)*\.?(?:\^\{?[23]\}?)?|°[CF]?|%")
_HALF_OF_DAY = re.compile(r"\b([ap])\.\s?m\b\.?", re.IGNORECASE)
_ASIDE = re.compile(r"(?P<unit>.*?)\s+\(\s*(?P<aside>[^\W\d_](?:[^\W\d_]|[ .°-])*)\)", re.DOTALL)
_MORE = {"more": "more", "fewer": "fewer", "less": "fewer"}
_ARTICLE = frozenset("a%")
_SINGLE_LETTERS = {
    **dict.fromkeys(("degree", "degrees"), frozenset("cf")),
    **dict.fromkeys(("square", "cubic", "sq", "cu"), frozenset("m")),
}
"""Letters that may stand in a unit behind the words that are its first."""
_BEHIND_TIMES = frozenset(("as", "more", "a", "per", "each", "every", "daily"))
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
def parse_quantity(text: str, letters: bool = False) -> Quantity | None:
    r"""Read a text that is one number and nothing else but its sign, currency, percent sign or unit.

    Thousands separators must stand where they belong; a European decimal comma is not read.

    Args:
        text: Any text.
        letters: A number is asked for, so that the letter of "6 m" or "6L" is a unit and no variable.

    >>> parse_quantity(r"-\$1,250.50 per day")
    Quantity(value=Fraction(-2501, 2), ratio=Fraction(1, 1), unit='dollar')
    >>> parse_quantity(r"2\tfrac12").value, parse_quantity("２５ ％").ratio
    (Fraction(5, 2), Fraction(1, 100))
    >>> [parse_quantity(text) for text in (r"2\sqrt3", "2x", "1,00", "3 or 4", "1/0", "x")]
    [None, None, None, None, None, None]
    >>> parse_quantity("6 m"), parse_quantity("6 m", letters=True).unit, parse_quantity("6 more apples").unit
    (None, 'meter', 'apple')
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
    currency = (match["currency"] or "").lower().rstrip(".")
    if (currency or letters) and (per := re.fullmatch(r"\s*/\s*([^\W\d_]{2,})\.?", rest)):  # $6/hour
        rest = " per " + per[1] if _unit(" " + per[1]) else rest
    # \text{ m} says that m is a unit, where a bare m could be a variable.
    known = marked and not rest.strip(" .")
    unit = _unit(marked, known=True) if known else _unit(rest + marked, letters=letters)
    if unit is None:
        return None
    scale, ratio, name = unit
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


def _unit(rest: str, known: bool = False, letters: bool = False) -> tuple[Fraction, Fraction, str] | None:
    """Scale, ratio and name of the unit behind a number; None when the rest is no unit.

    Args:
        rest: What follows the number; it starts with a space unless it is glued to it.
        known: The text was marked as words, so that a single letter is a unit too.
        letters: A letter that is a unit is one.
    """
    glued = not rest[:1].isspace()
    rest = _HALF_OF_DAY.sub(r"\1m", rest.strip()).rstrip(".")
    if aside := _ASIDE.fullmatch(rest if glued else " " + rest):
        return _with_aside(aside, letters)
    scale = ratio = _ONE
    if not rest or rest in _CURRENCIES:
        return scale, ratio, _CURRENCIES.get(rest, "")
    words = _WORDS.findall(rest)
    if not words or len(words) > MAX_UNIT_WORDS or _WORDS.sub("", rest).strip():
        return None
    if words[0].lower() in _SCALES:
        scale, glued = Fraction(_SCALES[words.pop(0).lower()]), False
    if words and words[0].lower() in _RATIOS:
        ratio, glued = _RATIOS[words.pop(0).lower()], False
    name = _unit_name(words, glued, known, letters)
    return None if name is None else (scale, ratio, name)


def _unit_name(written: list[str], glued: bool, known: bool, letters: bool) -> str | None:
    """Name of the unit that the words behind a number say, "" where there are none; None when they say no unit."""
    words = [word.lower() for word in written]
    if words[:1] == ["times"]:
        return "times" if "than" not in words and _BEHIND_TIMES.issuperset(words[1:2]) else None
    comparison = _MORE[words.pop(0)] if words and words[0] in _MORE else ""
    if not words:
        return comparison
    first = words[len(words) > 1 and words[0] in ("a", "an", "per")].rstrip(".")  # 12 a day
    is_letter = letters and _LETTER_UNIT.fullmatch(written[len(written) - len(words)].rstrip("."))
    is_unit = (
        known or first.startswith("°") or (len(first) > 2 and not glued) or _SHORT_UNITS.fullmatch(first) or is_letter
    )
    if not is_unit or first in _SCALES or _NUMERAL.fullmatch(first):
        return None
    if any(_NOT_A_UNIT.fullmatch(word.rstrip(".")) for word in (first, *words[1:])):
        return None
    if not _SINGLE_LETTERS.get(first, _ARTICLE).issuperset(word for word in words[1:] if len(word) == 1):
        return None  # 6 m n
    name = first.removesuffix("s") if len(first) > 3 else first
    name = _CURRENCIES.get(name) or _SAME_UNITS.get(name, name)
    return f"fewer {name}" if comparison == "fewer" else name


def _with_aside(aside: re.Match[str], letters: bool) -> tuple[Fraction, Fraction, str] | None:
    """The unit of "6 (apples)" and "6 m (metres)"."""
    inner = _unit(" " + aside["aside"].strip(), letters=letters)
    outer = _unit(aside["unit"], letters=letters) if aside["unit"].strip() else inner
    return outer if inner is not None and outer is not None and inner[:2] == (_ONE, _ONE) else None
