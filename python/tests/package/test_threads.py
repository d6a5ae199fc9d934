"""The interpreter's lock is free while a model computes, threads take turns, and Ctrl-C ends a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import sttabt
from conftest import folder, model

LONG = "the story is dull and I was bored after ten minutes " * 10


def test_threads_share_a_model(words: list[str]) -> None:
    wanted = model("tiny-bert").classify(words).logits
    parts = [slice(start, start + 30) for start in range(0, 300, 30)]
    with ThreadPoolExecutor(8) as pool:
        logits = list(pool.map(lambda part: model("tiny-bert").classify(words[part]).logits, parts * 3))
    assert np.array_equal(np.concatenate(logits), np.concatenate([wanted] * 3))


def test_the_lock_is_free() -> None:
    counted, is_done = 0, threading.Event()
    longest = 0.0

    def count() -> None:
        nonlocal counted, longest
        last = time.monotonic()
        while not is_done.is_set():
            time.sleep(0.001)
            counted += 1
            now = time.monotonic()
            last, longest = now, max(longest, now - last)

    counter = threading.Thread(target=count)
    counter.start()
    start = time.monotonic()
    model("sst2-minilm").classify([LONG] * 60, prune="dense")
    seconds = time.monotonic() - start
    is_done.set()
    counter.join()
    # One call of some hundred milliseconds or more, during which another thread went on.
    assert seconds > 0.2 and counted > 20 * seconds and longest < 0.5 * seconds, (seconds, counted, longest)


class Stopped(Exception):
    pass


@pytest.mark.one_thread
@pytest.mark.parametrize("method", ["classify", "rank"])
def test_what_progress_raises_ends_the_call(method: str, words: list[str]) -> None:
    calls: list[tuple[int, int | None]] = []

    def progress(*call: Any) -> None:
        calls.append(call)
        if call[0]:
            raise Stopped

    name, args = ("tiny-bert", (words * 20,)) if method == "classify" else ("electra-same", ("a film", [f"a film {place} " * 8 for place in range(2000)]))
    with pytest.raises(Stopped):
        getattr(model(name), method)(*args, progress=progress)
    # rank may have reported once more before it was told.
    assert calls[0][0] == 0 and 2 <= len(calls) <= 3 and calls[-1][0] < 500
    assert len(model("tiny-bert").classify(words)) == 300


@pytest.mark.one_thread
def test_progress_of_rank() -> None:
    calls: list[tuple[int, int]] = []
    model("electra-same").rank("a film", [f"a film {place} " * 8 for place in range(1000)], progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 1000) and calls[-1] == (1000, 1000) and len(calls) > 10 and calls == sorted(calls)


def test_a_call_within_a_call() -> None:
    tiny = model("tiny-bert")
    # Between two groups the model is free.
    results = tiny.classify(tiny.classify([text]).labels[0].replace("LABEL_", "w5") for text in ["w51", "w41"])
    assert len(results) == 2
    tiny.classify(["w51"], progress=lambda *_: tiny.classify(["w41"]))
    with pytest.raises(sttabt.SttabtError, match="`progress` calls the model"):
        score = model("electra-same")
        score.rank("a film", ["a", "b"], progress=lambda *_: score.rank("a film", ["a"]))


INTERRUPTED = """
import os, signal, sys, threading, time, sttabt
# A shell lets what it starts in the background ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = sttabt.Model.load(sys.argv[1], backend="cpu")
texts = [sys.argv[3]] * 600
calls = {
    "classify": lambda: model.classify(texts, prune="dense"),
    "auto": lambda: model.classify(texts, prune="auto:topk:0.9"),
    "rank": lambda: model.rank("dull", [f"{place} {text}" for place, text in enumerate(texts)], prune="dense", label="positive"),
}
call = calls[sys.argv[2]]
sent = 0.0
def interrupt():
    global sent
    time.sleep(1.0)
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    call()
except KeyboardInterrupt:
    print(time.monotonic() - sent)
    assert model.classify(["a gripping film"]).labels == ["positive"]
else:
    print("not interrupted")
"""


@pytest.mark.parametrize("method", ["classify", "auto", "rank"])
def test_ctrl_c(method: str) -> None:
    """A call of many seconds ends between two layers; the model goes on."""
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, folder("sst2-minilm"), method, LONG], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 4.0, run.stdout


def test_a_waiting_thread_is_interrupted() -> None:
    """Ctrl-C reaches the main thread while another one's call holds the model."""
    thread = threading.Thread(target=lambda: model("sst2-minilm").classify([LONG] * 150, prune="dense"))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model("sst2-minilm").classify(["a gripping film"] * 1000)
    finally:
        signal.signal(signal.SIGINT, before)
    # It did not wait for the other's end.
    assert thread.is_alive()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_told() -> None:
    model("tiny-bert").classify(["w51"])
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            model("tiny-bert").classify(["w51"])
        except sttabt.SttabtError as error:
            os._exit(3 if "forked" in str(error) else 4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
