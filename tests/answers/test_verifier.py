"""The worker process: really killed, really replaced, from any thread."""

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core_lightning.answers import Verdict, Verifier, WorkerStartError, symbolic_worker

HANGS = r"\boxed{9^{9^9}}"
EQUAL = (r"\boxed{2\sqrt{3}}", r"\sqrt{12}")


@pytest.fixture(scope="module")
def verifier():
    with Verifier(timeout=0.5) as verifier:
        verifier.check([EQUAL[0]], [EQUAL[1]])  # the start of the worker is not what is tested
        yield verifier


def server(verifier: Verifier) -> int:
    return verifier._worker._server


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_hanging_comparison_is_killed_counted_and_followed_by_a_right_one(verifier):
    first, timeouts = server(verifier), verifier.timeouts
    verdicts = verifier.check([HANGS, EQUAL[0], HANGS], [r"\sqrt{2}", EQUAL[1], r"\sqrt{2}"])
    assert [(v.correct, v.timed_out) for v in verdicts] == [(False, True), (True, False), (False, True)]
    assert verifier.timeouts == timeouts + 2
    assert server(verifier) != first
    assert not os.path.exists("/proc") or not alive(first)


@pytest.mark.parametrize(
    "completion",
    [
        r"\boxed{9^9^9^9}",
        "\\boxed{" + "{" * 20_000 + "1" + "}" * 20_001,
        "\\boxed{" * 20_000,
        "\\boxed{" * 14_000 + "1" + "}" * 14_000,
        "\\boxed{" + "9" * 1_000_000 + "}",
        "\\boxed{" + "(" * 450 + "}",
        "\\boxed{" + "\\frac{1}{" * 28 + "x" + "}" * 29,
        r"\boxed{\int_0^{7} e^{\sin(x^x)} \sqrt{\tan(x)} dx}",
        r"\boxed{(x+y+z+w+1)^{900}}",
        r"\boxed{10000000!}",
        "<answer>" * 100_000,
        r"\boxed{1}<answer>2</answer>" * 5_000,
        "The answer is " * 50_000,
        "=1" * 300_000,
        " " * 1_000_000,
    ],
    ids=range(15),
)
def test_hostile_answer_ends_and_leaves_a_working_verifier(verifier, completion):
    for gold, kind in ((r"\sqrt{2}", "math"), ("7", "number"), ("B", "choice"), ("seven", "text")):
        assert not verifier.check([completion], [gold], kind)[0].correct
    assert verifier.check([EQUAL[0]], [r"2\cdot\sqrt{3}"], "math")[0].correct


def test_absurd_answers_are_refused_without_a_comparison(verifier):
    before = verifier.comparisons
    absurd = ["\\boxed{x" + "+x" * 2_000 + "}", "\\boxed{" + "{" * 100 + "x" + "}" * 101, "\\boxed{no solution}"]
    assert not any(v.correct for v in verifier.check(absurd, ["x^2"] * 3, "math"))
    assert verifier.comparisons == before


def test_works_from_several_threads(verifier):
    verdicts: dict[int, list[Verdict]] = {}

    def work(number: int) -> None:
        completions = [rf"\boxed{{{number}\sqrt{{{k}}}}}" for k in (2, 3, 5)]
        verdicts[number] = verifier.check(completions, [rf"\sqrt{{{number**2 * k}}}" for k in (2, 3, 7)], "math")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[v.correct for v in verdicts[n]] for n in range(2, 6)] == [[True, True, False]] * 4


def test_timeout_in_a_thread(verifier):
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.extend(verifier.check([HANGS], [r"\sqrt{3}"], "math")))
    thread.start()
    thread.join()
    assert verdicts[0].timed_out


def test_same_question_is_asked_once(verifier):
    before, timeouts = server(verifier), verifier.timeouts
    verifier.check([HANGS] * 20, [r"\sqrt{5}"] * 20, "math")
    assert verifier.timeouts == timeouts + 20
    after = server(verifier)
    verifier.check([HANGS], [r"\sqrt{5}"], "math")
    assert before != after == server(verifier)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_worker_killed_from_outside_is_replaced(verifier):
    timeouts = verifier.timeouts
    verifier._worker._process.kill()
    verifier._worker._process.wait()
    os.kill(server(verifier), 9)
    assert verifier.check([r"\boxed{3\sqrt{11}}"], [r"\sqrt{99}"], "math")[0].correct
    os.kill(server(verifier), 9)  # only the server: its parent makes a new one
    time.sleep(0.05)
    verifier.check([r"\boxed{4\sqrt{11}}"], [r"\sqrt{176}"], "math")
    assert verifier.check([r"\boxed{5\sqrt{11}}"], [r"\sqrt{275}"], "math")[0].correct
    assert verifier.timeouts == timeouts


def test_close_ends_the_processes_and_allows_another_use():
    verifier = Verifier()
    assert verifier.check([EQUAL[0]], [EQUAL[1]])[0].correct
    process = verifier._worker._process
    verifier.close()
    assert process.poll() is not None
    assert verifier.check([r"\boxed{7\sqrt{3}}"], [r"\sqrt{147}"])[0].correct
    verifier.close()


def test_pickled_copy_has_its_own_worker(verifier):
    copy = pickle.loads(pickle.dumps(verifier))
    assert copy.timeout == verifier.timeout
    assert copy._worker is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_forked_child_starts_its_own_worker(verifier):
    child = os.fork()
    if child == 0:
        right = verifier.check([r"\boxed{6\sqrt{3}}"], [r"\sqrt{108}"], "math")[0].correct
        verifier.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    before = server(verifier)
    assert verifier.check([r"\boxed{8\sqrt{3}}"], [r"\sqrt{192}"], "math")[0].correct
    assert server(verifier) == before


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_numbers_start_no_process_and_import_no_computer_algebra():
    code = (
        "import sys, subprocess\n"
        "def refuse(*args, **kwargs): raise AssertionError('a process was started')\n"
        "subprocess.Popen = refuse\n"
        "from core_lightning.answers import is_correct\n"
        "assert is_correct('so 7 + 5 = 12', '12') and is_correct(r'\\boxed{\\frac12}', '0.5')\n"
        "print([name for name in ('sympy', 'math_verify', 'torch', 'transformers', 'lightning') if name in sys.modules])"
    )
    assert run_python(code).strip() == "[]"


@pytest.mark.skipif(not os.path.exists("/proc"), reason="needs /proc")
def test_worker_ends_with_the_interpreter():
    code = (
        "from core_lightning.answers import default_verifier, is_correct\n"
        r"assert is_correct(r'\boxed{2\sqrt{3}}', r'\sqrt{12}')" + "\n"
        "worker = default_verifier()._worker\n"
        "print(worker._process.pid, worker._server)"
    )
    processes = [int(number) for number in run_python(code).split()]
    assert len(processes) == 2
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{p}") and alive(p) for p in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{p}") and alive(p) for p in processes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork there is no server to put in place of another")
def test_a_worker_whose_replies_nobody_reads_ends():
    """Who asked was killed while a comparison ran: servers must not follow each other forever."""
    script = Path(symbolic_worker.__file__)
    worker = subprocess.Popen(
        [sys.executable, "-P", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert int(worker.stdout.readline()) > 0
    worker.stdout.close()
    worker.stdin.write('[1, "2", "2"]\n')  # its input stays open
    try:
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.stdin.close()


def test_settings_and_lengths_are_checked():
    with pytest.raises(ValueError, match="timeout is 0"):
        Verifier(timeout=0)
    with pytest.raises(ValueError, match="2 completions, 1 golds"):
        Verifier().check(["1", "2"], ["1"])
    assert Verifier().check([], []) == []


def test_a_worker_that_cannot_start_is_an_error(monkeypatch, tmp_path):
    broken = tmp_path / "symbolic_worker.py"
    broken.write_text("raise MemoryError('no room here')")
    monkeypatch.setattr("core_lightning.answers.worker.WORKER", broken)
    with Verifier() as verifier, pytest.raises(WorkerStartError, match="no room here"):
        verifier.check([r"\boxed{2\sqrt3}"], [r"\sqrt{12}"])


def test_a_worker_that_died_is_replaced_and_counted():
    with Verifier(timeout=10.0) as verifier:
        assert verifier.check([r"\boxed{2\sqrt3}"], [r"\sqrt{12}"])[0].correct
        assert verifier.replaced == 0
        verifier._worker.stop()
        assert verifier.check([r"\boxed{2\sqrt5}"], [r"\sqrt{20}"])[0].correct
        assert verifier.replaced == 1
