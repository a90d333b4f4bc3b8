r"""Checking completions against gold so that no answer can fool or hang the run.

Numbers, letters, words and identical expressions are decided in this process. Everything else goes to a worker process
that does computer algebra and is killed when its time is up. Unlike the alarm signals of math-verify, that works from
any thread and against any answer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from core_lightning.answers.equality import bare_gold, decide, infer_kind
from core_lightning.answers.extraction import extract_answer
from core_lightning.answers.notation import plain_notation
from core_lightning.answers.worker import SymbolicWorker, WorkerStartError

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

REMEMBERED = 10_000
"""Symbolic comparisons whose outcome is kept: samples of one problem repeat each other's answers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one completion."""

    answer: str | None
    """Extracted final answer, None when there is none or it is ambiguous."""
    correct: bool
    timed_out: bool = False
    """The comparison was cut off, which counts as incorrect."""


class Verifier:
    r"""Extracts and compares answers; owns the worker process for symbolic ones.

    The worker starts with the first comparison that needs it and ends with the verifier or the interpreter. A verifier
    may be used from any thread, survives a fork or a pickle without sharing its worker, and works again after a close.

    Args:
        timeout: Seconds of wall-clock time one symbolic comparison may take.

    Attributes:
        timeouts: Verdicts so far that were cut off.
        comparisons: Comparisons so far that needed the worker.
        replaced: Workers so far that died and were replaced.

    >>> with Verifier() as verifier:
    ...     verifier.check([r"\boxed{2\sqrt{3}}", "so 3 or 4"], [r"\sqrt{12}", "4"], "auto")
    [Verdict(answer='2\\sqrt{3}', correct=True, timed_out=False), Verdict(answer=None, correct=False, timed_out=False)]
    """

    def __init__(self, timeout: float = 1.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}, but a comparison needs a positive number of seconds")
        self.timeout = timeout
        self.timeouts = 0
        self.comparisons = 0
        self.replaced = 0
        self._reset()

    def _reset(self) -> None:
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._worker: SymbolicWorker | None = None
        self._known: dict[tuple[str, str], bool | None] = {}

    def __reduce__(self) -> tuple[type[Verifier], tuple[float]]:
        return type(self), (self.timeout,)

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(
        self,
        completions: Sequence[str],
        golds: Sequence[str],
        kinds: Sequence[AnswerKind] | AnswerKind = "auto",
        opened: bool = False,
    ) -> list[Verdict]:
        """Verdict on every completion.

        Args:
            completions: Texts of completions.
            golds: One gold answer each, bare or as a whole solution with its mark.
            kinds: One kind each, or one for all. ``auto`` takes the kind of the gold answer.
            opened: The prompts opened a think block that a completion has to close.

        Raises:
            WorkerStartError: A comparison needs computer algebra, and its process cannot start.
            ValueError: The lengths differ.
        """
        kinds = [kinds] * len(completions) if isinstance(kinds, str) else kinds
        if not len(completions) == len(golds) == len(kinds):
            raise ValueError(
                f"{len(completions)} completions, {len(golds)} golds and {len(kinds)} kinds: give one of each"
            )
        return [self._verdict(*item, opened) for item in zip(completions, golds, kinds, strict=True)]

    def _verdict(self, completion: str, gold: str, kind: AnswerKind, opened: bool) -> Verdict:
        gold = bare_gold(gold)
        read_as = infer_kind(gold) if kind == "auto" else kind
        if kind == "auto" and read_as == "number":
            read_as = "math"  # a root or a power may stand for a number
        answer = extract_answer(completion, read_as, opened)
        if answer is None:
            return Verdict(None, correct=False)
        correct = decide(answer, gold, kind)
        if correct is None:
            correct = self._compare(plain_notation(answer), plain_notation(gold))
        return Verdict(answer, bool(correct), timed_out=correct is None)

    def _compare(self, answer: str, gold: str) -> bool | None:
        """Symbolic comparison; None when it was cut off."""
        if self._process_id != os.getpid():  # after a fork the pipes belong to the parent
            self._reset()
        with self._lock:
            self.comparisons += 1
            key = (answer, gold)
            if key not in self._known:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[key] = self._ask(answer, gold)
            outcome = self._known[key]
            self.timeouts += outcome is None
            return outcome

    def _ask(self, answer: str, gold: str) -> bool | None:
        for _ in range(2):  # a worker that was ended from outside gets one successor
            self._worker = self._worker or SymbolicWorker()
            try:
                return self._worker.ask(answer, gold, self.timeout)
            except TimeoutError:
                return None
            except EOFError:
                self._worker = None
                self.replaced += 1
            except WorkerStartError:
                self._worker = None
                raise
        return False

    def close(self) -> None:
        """End the worker; it starts again when needed."""
        if self._process_id == os.getpid():
            with self._lock:
                if self._worker is not None:
                    self._worker.stop()
                self._worker = None


@cache
def default_verifier() -> Verifier:
    """The verifier of :func:`is_correct`, made when it is first needed."""
    return Verifier()


def is_correct(completion: str, gold: str, kind: AnswerKind = "auto") -> bool:
    r"""Whether the final answer of a completion equals gold.

    Args:
        completion: Text of a completion, its think block included.
        gold: Gold answer, bare or marked: "18", "#### 18", "1,000", ``\frac{1}{2}``, "B".
        kind: How to read and compare; ``auto`` takes the kind of the gold answer.

    Returns:
        False also when there is no answer, when it is ambiguous and when the comparison took over a second.

    >>> is_correct("She earns $18 a day.\n#### 18", "18"), is_correct(r"Thus \boxed{\frac{4}{8}}", r"\frac{1}{2}")
    (True, True)
    >>> is_correct("The answer is 3 or 4.", "4"), is_correct(r"\boxed{2\sqrt3}", "2"), is_correct("Answer: (C)", "C")
    (False, False, True)
    """
    return default_verifier().check([completion], [gold], kind)[0].correct
