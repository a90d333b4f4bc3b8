"""Words that matter where arithmetic stands in prose: what is no unit, what is an operation, what can be converted."""

from __future__ import annotations


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""Words that may multiply the number before them."""

NO_UNIT = _set(
    "a an the in on at to for from per each every with more total left all this his her their times",
)
"""Words behind a number that name no unit, but may stand between it and an operator."""

NO_UNIT_BEYOND = _set(
    "and or but of so then that which who because since as if when where while thus therefore hence",
    "is are was were be has have had he she it they we you i",
)
"""Words at which a sum ends."""

FILLER = _set("a total of about approximately roughly around nearly almost exactly only just the")
"""Words that may stand between an equality sign and the number that follows it."""

OPERATION = _set(
    "times plus minus over divided multiplied mod modulo twice double triple thrice half third quarter sum product",
    "difference quotient square cube root squared cubed sqrt log ln sin cos tan gcd lcm max min choose than percent power",
    "multiple dozen hundred thousand million billion",
)
"""Words that do something to the number behind them."""

JOINING = _set("sum product difference quotient between")
"""Words that take two numbers with an "and" between them."""

SHARES = _set("half third quarter fourth fifth sixth eighth tenth percent product difference square root out")
"""Words that make an "of" a multiplication; a total "of" is none."""

LABELS = _set(
    "day week month year step part chapter problem question number option level grade room page case round figure table",
    "equation section line item",
)
"""Words that a number behind them names: day 1."""

MEASURES = _set(
    "hour hr h minute min second sec day week month year decade foot feet ft inche inch in yard yd mile mi meter metre m",
    "cm centimeter mm millimeter km kilometer gram g kg kilogram lb pound ounce oz ton gallon gal quart pint cup liter",
    "litre ml milliliter dollar cent quarter dime nickel penny pennie penn euro pair box boxe pack packet bag case carton",
    "set team group bunch roll tray jar bottle gross score degree °",
    *SCALES,
)
"""Units, in the singular, that may hold a number of others."""

CLOCK = _set("am pm o'clock o’clock noon midnight")
"""Words of a time of day, which goes on at one behind twelve."""

OF_A_LIST = _set(
    "average avg mean median mode range sum product gcd gcf hcf lcm lcd max maximum min minimum greatest least largest",
    "smallest difference add adding between",
)
"""Words that take all the numbers of a list."""

RATIOS = frozenset(
    [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 25, 28, 30, 31, 36, 48, 50, 52, 60, 100, 144, 168, 360, 365, 366]
) | frozenset([1000, 1440, 1760, 2000, 3600, 5280, 10**4, 86400, 10**6])
"""How many of one unit another may hold."""


def singular(word: str) -> str:
    """A unit in the singular, roughly: enough to see that two are the same."""
    return word.removesuffix("s") if len(word) > 3 else word
