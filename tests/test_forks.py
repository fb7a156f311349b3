"""Forked processes: the child computes the parent's numbers, whatever the parent does or did."""

import os
import threading
import time

import pytest

from cjkclip.errors import EngineError
from cjkclip.machine.forks import Gate, Lock
from support.processes import printed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

# Prints a line for each state of the parent: the result of a child; the first child also forks one.
STATES = """
import gc, os, signal, sys, threading, time, warnings
import numpy as np
import cjkclip

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
ENGINE, WAIT, LAST = sys.argv[1], 30, 2
IMAGES = [np.full((9, 9, 3), 99, np.uint8)]
loaded = lambda: cjkclip.load("moji", engine=ENGINE)
ask = lambda clip: np.concatenate([clip.encode_text(["cat", "panda"]), clip.encode_image(IMAGES)])


def result(clip, depth=1):
    child = os.fork()
    if not child:
        same = np.allclose(ask(clip), expected, atol=1e-5)
        os._exit(0 if same and (depth == LAST or result(clip, depth + 1) == "right") else 1)
    for _ in range(WAIT * 100):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "right" if status == 0 else f"status {status}"
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return "hangs"


def busy(call, *inputs):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            call(*inputs)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    results = {result(clip) for _ in range(2)}
    stop.set()
    thread.join()
    return results


unused = loaded()
clip = loaded()
expected = ask(clip)
print("used:", {result(clip)})
LAST = 1
print("not used:", {result(unused)})
half = loaded()
half.encode_text(["cat"])
print("only texts used:", {result(half)})
print("texts meanwhile:", busy(clip.encode_text, ["cat", "panda"]))
print("images meanwhile:", busy(clip.encode_image, IMAGES))
del half
gc.collect()
print("another freed:", {result(loaded())})
assert np.allclose(ask(clip), expected, atol=1e-5)
"""
NAMES = ("used", "not used", "only texts used", "texts meanwhile", "images meanwhile", "another freed")


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_a_forked_child_computes_the_same(engine: str) -> None:
    lines = printed("-c", STATES, engine, OMP_NUM_THREADS="2", timeout=300).splitlines()
    assert lines == [f"{name}: {{'right'}}" for name in NAMES]


COMPAT = """
import os, warnings
import torch, cjkclip
from cjkclip.compat import open_clip

warnings.simplefilter("ignore", DeprecationWarning)
model = open_clip.create_model("moji")
ids = open_clip.get_tokenizer("moji")(["cat", "panda"] * 40)
expected = model.encode_text(ids)
child = os.fork()
if not child:
    os._exit(0 if torch.allclose(model.encode_text(ids), expected, atol=1e-5) else 1)
print(os.waitpid(child, 0)[1])
"""


def test_a_module_of_compat_works_in_a_forked_child() -> None:
    assert printed("-c", COMPAT, OMP_NUM_THREADS="2", timeout=60) == "0\n"


def test_a_fork_waits_for_calls_and_new_calls_wait_for_it() -> None:
    gate, inside, leave, order = Gate(), threading.Event(), threading.Event(), list[str]()

    def call() -> None:
        with gate.call():
            inside.set()
            leave.wait(10)
            with gate.call():  # calls of a thread that is inside do not wait
                order.append("call")

    def late() -> None:
        with gate.call():
            order.append("late")

    first, second = threading.Thread(target=call), threading.Thread(target=late)
    first.start()
    inside.wait(10)
    threading.Timer(0.2, leave.set).start()
    threading.Timer(0.1, second.start).start()
    with gate.call():  # the forking thread may be inside itself
        gate.before()
        order.append("fork")
        gate.after_in_parent()
    first.join(10)
    second.join(10)
    assert order == ["call", "fork", "late"]


def test_a_child_that_was_forked_in_the_middle_of_a_call_gets_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, leave = Gate(), threading.Event()
    monkeypatch.setattr("cjkclip.machine.forks.WAIT", 0.05)

    def call() -> None:
        with gate.call():
            leave.wait(10)

    thread = threading.Thread(target=call)
    thread.start()
    while not gate.others():
        time.sleep(0.01)
    gate.require_whole()
    gate.before()
    gate.after_in_child()
    with pytest.raises(EngineError, match=r"forked while another thread was computing.*spawn"):
        gate.require_whole()
    leave.set()
    thread.join(10)
    with gate.call():
        pass


def test_a_lock_that_another_thread_held_is_open_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock()
    lock.__enter__()
    monkeypatch.setattr(os, "getpid", lambda: -1)  # the child has another number
    with lock:
        pass
