r"""What stays of worked solutions when their answer is taken out: does the gold value still stand there, is an operand lost.

    python -m benchmarks.hints GSM8K_TRAIN.jsonl [AQUA.jsonl] [--limit 1000]

Nothing is shipped: give the files. GSM8K's training file has ``question`` and ``answer``, where the calculator marks
<<2*3=6>> say which numbers are operands; each solution is written with three endings. AQuA's file has ``question``,
``options``, ``rationale`` and ``correct``. The counts are made here from the text, not by the code that is measured:

- gold stands: a number of gold's value (or, with options, the letter or the option's text) in the hint that touches no
  operator and that the question does not give;
- an operand is lost: on the left of some calculation of the solution there are fewer numbers of gold's value in the hint.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from core_lightning.answers import leaks_answer, remove_answer

ENDINGS = {
    "mark": "{body}\n#### {gold}",
    "total and box": "{body}\nTherefore, the total comes to {gold}.\n\\boxed{{{gold}}}",
    "twice in prose": "{body}\nSo in the end we get {gold}.\n\nThat is {gold} in all. **Answer: {gold}**",
}
_MARK = re.compile(r"<<[^<>]*>>")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?|(?<![\w.])\.\d+")
_SIGN = "+-*/x×÷"


def number(text: str) -> float:
    return float(text.replace(",", "").rstrip("."))


def standing(hint: str, gold: float, question: str) -> bool:
    """A number of gold's value that touches no operator, and that the question does not give."""
    if any(number(m[0]) == gold for m in _NUMBER.finditer(question)):
        return False
    for match in _NUMBER.finditer(hint):
        before = hint[: match.start()].rstrip(" $(")[-1:]
        behind = re.sub(r"^[\s$)%]*(?:[A-Za-z]+\s+){0,3}(?=[-+*/x×÷]\s*[\d$(.])|^[\s$)%]+", "", hint[match.end() :])[:1]
        if number(match[0]) == gold and before not in [*_SIGN] and behind not in [*_SIGN]:
            return True
    return False


def operands(text: str, gold: float) -> int:
    """Numbers of gold's value on the left of the calculations of a text without marks."""
    count = 0
    for left in re.findall(r"[\d$+*/x×÷().,% -]+(?==)", text):
        numbers = [number(m[0]) for m in _NUMBER.finditer(left)]
        count += numbers.count(gold) if len(numbers) > 1 else 0
    return count


def gsm8k(path: Path, limit: int | None) -> Iterator[tuple[str, dict[str, int]]]:
    for line in path.read_text(encoding="utf-8").splitlines()[:limit]:
        row = json.loads(line)
        body, _, gold = row["answer"].rpartition("\n#### ")
        body, value = _MARK.sub("", body), number(gold)
        for name, form in ENDINGS.items():
            hint = remove_answer(form.format(body=body, gold=gold), gold, "number", question=row["question"])
            yield (
                name,
                {
                    "hints": bool(hint),
                    "gold stands": standing(hint, value, row["question"]),
                    "said to leak": bool(hint) and leaks_answer(hint, gold, "number", question=row["question"]),
                    "has such operands": bool(hint) and operands(body, value) > 0,
                    "operands lost": bool(hint) and operands(hint, value) < operands(body, value),
                },
            )


def aqua(path: Path, limit: int | None) -> Iterator[tuple[str, dict[str, int]]]:
    for line in path.read_text(encoding="utf-8").splitlines()[:limit]:
        row = json.loads(line)
        letter = row["correct"]
        option = re.sub(r"^(?:[A-E]\s*\)\s*)+", "", row["options"]["ABCDE".index(letter)]).strip()
        hint = remove_answer(row["rationale"], letter, "choice", [option], row["question"])
        amounts = [number(m[0]) for m in _NUMBER.finditer(option)]
        alone = len(amounts) == 1 and re.fullmatch(r"\D{0,5}[\d.,]+(?:\s*[A-Za-z%.]+){0,3}", option)
        said = standing(hint, amounts[0], row["question"]) if alone else option.lower() in hint.lower()
        said = said or re.search(rf"\({letter}\)|\b(?:option|choice|answer)\W{{0,4}}{letter}\b", hint) is not None
        lost = alone and operands(hint, amounts[0]) < operands(row["rationale"], amounts[0])
        yield (
            "rationales",
            {
                "hints": bool(hint),
                "gold stands": bool(hint) and said,
                "said to leak": bool(hint) and leaks_answer(hint, letter, "choice", [option], row["question"]),
                "has such operands": bool(hint) and bool(alone) and operands(row["rationale"], amounts[0]) > 0,
                "operands lost": bool(hint) and bool(lost),
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gsm8k", type=Path)
    parser.add_argument("aqua", type=Path, nargs="?")
    parser.add_argument("--limit", type=int, help="only so many problems of each file")
    args = parser.parse_args()
    totals: dict[str, dict[str, int]] = {}
    sources = [("GSM8K, ", gsm8k(args.gsm8k, args.limit))]
    if args.aqua:
        sources.append(("AQuA, ", aqua(args.aqua, args.limit)))
    for prefix, counted in sources:
        for name, counts in counted:
            total = totals.setdefault(prefix + name, dict.fromkeys(counts, 0) | {"solutions": 0})
            total["solutions"] += 1
            for key, value in counts.items():
                total[key] += int(value)
    for name, total in totals.items():
        share = {key: f"{100 * total[key] / max(total['hints'], 1):.2f} %" for key in total if key != "solutions"}
        print(name, total["solutions"], share)
    out = Path(__file__).parent / "results" / ("hints.quick.json" if args.limit else "hints.json")
    out.write_text(json.dumps(totals, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
