r"""Arithmetic of exact rationals over the pieces of a text, with the units that stand between them.

A percent sign and a scale word (dozen, million) may be meant as a factor or as a unit, and "2\frac{1}{2}" as a sum or a
product: a side of an equation is read in every way, and has every value that one of them gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import factorial, isqrt

from core_lightning.answers.equation_tokens import Token, unit_power
from core_lightning.answers.equation_words import NO_UNIT, NO_UNIT_BEYOND, SCALES, singular

MAX_NESTING = 30
"""Deeper brackets are not read."""
MAX_BITS = 2_000
"""A larger value is not computed."""
MAX_FACTORIAL = 50

_SIGNS = ("+", "-")


class UnreadableError(Exception):
    """What stands here is no arithmetic that can be read with certainty."""


@dataclass(slots=True)
class Reader:
    """Reads one side in one way: recursive descent, the usual precedence."""

    tokens: Sequence[Token]
    position: int
    stop: int
    factors: bool
    """A percent sign divides by a hundred and a scale word multiplies."""
    mixed: bool
    r"""2\frac{1}{2} is two and a half."""
    past_units: bool
    """A side goes on behind a unit (8 apples - 3) or an aside's bracket (8 (4 + 4))."""
    depth: int = 0
    end: int = 0
    operators: set[str] = field(default_factory=set)
    units: set[str] = field(default_factory=set)
    numbers: int = 0
    factors_in: int = 0
    """Factors of the product that was read last."""

    def _kind(self, ahead: int = 0) -> str:
        at = self.position + ahead
        return self.tokens[at].kind if at < self.stop else ""

    def read(self) -> Fraction:
        """Value of the sum that begins here; moves behind it.

        Raises:
            UnreadableError: There is no such value, or more than one.
        """
        value, shares = Fraction(0), set()
        sign = "+"
        while True:
            first = self.position
            term = self._product()
            value = value + term if sign == "+" else value - term
            shares.add([t.kind for t in self.tokens[first : self.position]][:2] == ["n", "%"] and self.factors_in == 1)
            sign = self._kind()
            if sign not in _SIGNS or not self._begins(1):
                break
            if self._behind_unit() and not self.past_units and not self.depth:
                break
            self.position += 1
            self.operators.add(sign)
        if len(shares) > 1:
            raise UnreadableError  # 150 + 20 %
        return value

    def _product(self) -> Fraction:
        first = self.position
        value = self._signed()
        divided: int | None = None  # where the last division sign stands
        factors_in = 1
        while True:
            kind = self._kind()
            if kind in ("*", "/") and self._begins(1):
                if kind == "/":
                    if divided is not None and self._spaced(divided) and not self._spaced(self.position):
                        raise UnreadableError  # 25 / 1/3
                    divided = self.position
                self.position += 1
                self.operators.add(kind)
                factor = self._signed()
            elif kind == "w" and self.past_units and self._is_share(first) and self._begins(1):
                self.position += 1
                self.operators.add("*")
                factor = self._signed()
            elif kind == "(" and self._touches():
                if divided is not None:
                    raise UnreadableError  # 6 / 2(3)
                self.operators.add("*")
                factor = self._signed()
            else:
                self.factors_in = factors_in
                return value
            factors_in += 1
            if kind == "/":
                if not factor:
                    raise UnreadableError
                value /= factor
            else:
                value *= factor
            _bounded(value)

    def _signed(self) -> Fraction:
        sign = 1
        if (kind := self._kind()) in _SIGNS:
            self.position += 1
            sign = -1 if kind == "-" else 1
            if self._kind() in _SIGNS or (kind == "+" and self.position > 1 and self._kind(-2) in ("+", "-", "*", "/")):
                raise UnreadableError
        raised = self.position
        value = self._power()
        if sign < 0 and self._raised(raised):
            raise UnreadableError  # -2^2
        return sign * value

    def _raised(self, first: int) -> bool:
        """Whether what was read since then is a power, not a bracket with one in it."""
        depth = 0
        for token in self.tokens[first : self.position]:
            if not depth and token.kind in ("^", "p"):
                return True
            depth += {"(": 1, ")": -1}.get(token.kind, 0)
        return False

    def _power(self) -> Fraction:
        base = self._atom()
        if self._kind() == "p":
            exponent = self.tokens[self.position].value
            self.position += 1
            self._measured()
        elif self._kind() == "^" and self._begins(1):
            self.position += 1
            exponent = self._signed_exponent()
        else:
            return base
        self.operators.add("^")
        if exponent.denominator != 1 or abs(exponent) > MAX_BITS or (not base and exponent <= 0):
            raise UnreadableError
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits > MAX_BITS:
            raise UnreadableError
        return base ** int(exponent)

    def _signed_exponent(self) -> Fraction:
        if self._kind() in _SIGNS:
            return self._signed()
        return self._power()

    def _atom(self) -> Fraction:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise UnreadableError
        kind, token = self._kind(), self.tokens[self.position] if self.position < self.stop else None
        if token is None:
            raise UnreadableError
        if kind == "n":
            value = self._number(token)
        elif kind == "(":
            value = self._group()
        elif kind == "f":
            self.position += 1
            value = self._fraction()
        elif kind == "r":
            self.position += 1
            value = _root(self._group())
            self.operators.add("^")
        else:
            raise UnreadableError
        self.end = self.position
        value = self._dressed(value)
        self.depth -= 1
        return value

    def _number(self, token: Token) -> Fraction:
        self.position += 1
        self.numbers += 1
        if token.currency:
            self.units.add("dollar")
        if self._kind() == "f":  # 2\frac{1}{2}
            self.position += 1
            self.operators.add("+")
            part = self._fraction()
            return token.value + part if self.mixed else token.value * part
        if self._kind() == "n" and self._kind(1) == "/" and self._kind(2) == "n":  # 2 1/2
            over, under = self.tokens[self.position], self.tokens[self.position + 2]
            whole = not (token.decimals or over.decimals or under.decimals)
            if whole and over.value < under.value and not self.tokens[self.position + 1].spaced and not under.spaced:
                self.position += 3
                self.operators.add("+")
                return token.value + over.value / under.value
        return token.value

    def _group(self) -> Fraction:
        opening = self.tokens[self.position] if self._kind() == "(" else None
        if opening is None:
            raise UnreadableError
        self.position += 1
        value = self.read()
        closing = self.tokens[self.position] if self._kind() == ")" else None
        if closing is None or opening.text + closing.text not in ("()", "[]", "{}"):
            raise UnreadableError
        self.position += 1
        return value

    def _fraction(self) -> Fraction:
        self.operators.add("/")
        parts = []
        for _ in range(2):
            if self._kind() == "n" and len(self.tokens[self.position].text) == 1:  # \frac12 comes as \frac 12
                parts.append(self.tokens[self.position].value)
                self.position += 1
            elif self._kind() == "n" and not parts and len(self.tokens[self.position].text) == 2:
                parts = [Fraction(int(digit)) for digit in self.tokens[self.position].text if digit.isdecimal()]
                self.position += 1
                break
            else:
                parts.append(self._group())
        if len(parts) != 2 or not parts[1]:
            raise UnreadableError
        return parts[0] / parts[1]

    def _dressed(self, value: Fraction) -> Fraction:
        """The value with what stands behind it: a percent sign, a factorial, a scale word, a unit."""
        if self._kind() == "!" and value.denominator == 1 and 0 <= value <= MAX_FACTORIAL:
            last = self.position + 1 >= self.stop
            if not last or not self.factors:  # at the end it may as well be an exclamation mark
                value = Fraction(factorial(int(value)))
            self.operators.add("^")
            self.position += 1
            self.end = self.position
        if self._kind() == "%":
            self.position += 1
            self.end = self.position
            if self._kind() == "n":
                raise UnreadableError  # a remainder: 7 % 2
            value = value / 100 if self.factors else value
        if self._kind() == "w" and (scale := SCALES.get(self.tokens[self.position].text.lower().removesuffix("s"))):
            self.position += 1
            value = value * scale if self.factors else value
        self._measured()
        _bounded(value)
        return value

    def _measured(self) -> None:
        """Skip the words of a unit, and the "/hour" of "miles/hour"."""
        first = True
        while self._kind() == "w" or (self._kind() == "/" and self._kind(1) == "w"):
            if self._kind() == "/":
                if first and not self.tokens[self.position - 1].currency:
                    break
                self.position += 1
            word = self.tokens[self.position].text.lower()
            if word in NO_UNIT_BEYOND:
                break
            if first and word not in NO_UNIT:
                self.units.add(singular(word))
                first = False
            self.position += 1
            self.position += unit_power([self._kind(i) for i in range(4)])

    def _begins(self, ahead: int) -> bool:
        """Whether an operand begins there."""
        kind = self._kind(ahead)
        return kind in ("n", "(", "f", "r") or (kind in _SIGNS and self._kind(ahead + 1) in ("n", "(", "f", "r"))

    def _spaced(self, operator: int) -> bool:
        return self.tokens[operator].spaced or self.tokens[operator + 1].spaced

    def _touches(self) -> bool:
        """Whether a bracket multiplies what stands before it, as in 2(3 + 4); with a space it may be an aside."""
        bracket = self.tokens[self.position]
        multiplies = bracket.text == "(" and self.tokens[self.position - 1].kind in ("n", ")")
        return multiplies and (self.past_units or not bracket.spaced or self.depth > 0)

    def _behind_unit(self) -> bool:
        return self.tokens[self.position - 1].kind == "w"

    def _is_share(self, first: int) -> bool:
        """Whether an "of" here multiplies: "20% of 50", "3/4 of 80"."""
        if self.tokens[self.position].text != "of":
            return False
        kinds = [t.kind for t in self.tokens[first : self.position]]
        return kinds[-1:] == ["%"] or kinds == ["n", "/", "n"] or kinds[:1] == ["f"]


def _bounded(value: Fraction) -> None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise UnreadableError


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise UnreadableError
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise UnreadableError
    return root
