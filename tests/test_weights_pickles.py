"""Pickles in weight files that bite, lie or never end: always WeightsError, nothing run, time bounded."""

import builtins
import io
import os
import pickle
import struct
import threading
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from cjkclip.checkpoints.weights import read
from cjkclip.checkpoints.weights.pickle import Machine
from cjkclip.checkpoints.weights.torchfile import LEGACY_MAGIC
from cjkclip.errors import WeightsError
from support import gadgets

STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    """Pickle opcode for a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def archive(folder: Path, pickled: bytes, *, script: bool = False, **records: bytes) -> Path:
    """A zip such as torch.save writes: one pickle, one storage of four float32, and `records` besides."""
    file = folder / "model.pt"
    contents = {"data.pkl": pickled, "byteorder": b"little", "data/0": np.arange(4, dtype="<f4").tobytes()}
    contents |= {"constants.pkl": b"\x80\x02)."} if script else {}
    with zipfile.ZipFile(file, "w") as out:
        for name, content in (contents | records).items():
            out.writestr(f"model/{name}", content)
    return file


def tensor(tail: bytes = b"K\x00K\x04\x85K\x01\x85\x89" + DICT) -> bytes:
    """A pickle of {"w": a tensor}, whose offset, shape, strides and the rest are `tail`."""
    return b"\x80\x02}" + text("w") + TENSOR + STORAGE + tail + b"tRs."


def refused(file: Path, words: str, seconds: float = 10.0) -> None:
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=words) as caught:
        read(file)
    assert time.perf_counter() - start < seconds
    assert len(str(caught.value)) < 1000
    assert str(caught.value).startswith(file.name)


def test_the_files_of_this_module_are_sound_until_they_are_spoilt(tmp_path):
    assert read(archive(tmp_path, tensor()))["w"].tolist() == [0, 1, 2, 3]


class Bite:
    """Pickles into a call of `function`."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


BITES = {
    "os.system": (os.system, "touch bitten"),
    "eval": (eval, "open('bitten', 'w')"),
    "exec": (exec, "open('bitten', 'w')"),
    "open": (open, "bitten", "w"),
    "getattr": (getattr, os, "system"),
    "torch.load": (torch.load, "bitten"),
    "_load_from_bytes": (torch.storage._load_from_bytes, b"bitten"),
    "torch.hub.load": (torch.hub.load, "bitten", "bitten"),
    "pickle.loads": (pickle.loads, b"cos\nsystem\n."),
    "_rebuild_parameter of eval": (torch._utils._rebuild_parameter, Bite(eval, "open('bitten', 'w')"), 1, 2),
}


@pytest.mark.parametrize("container", ["zip", "script", "legacy", "plain"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("bite", BITES)
def test_a_pickle_that_would_run_code_runs_nothing_and_is_refused_by_name(
    tmp_path, monkeypatch, bite, protocol, container
):
    monkeypatch.chdir(tmp_path)
    function, *args = BITES[bite]
    args = ["os" if arg is os else arg for arg in args]  # a module cannot be pickled; its name will do
    pickled = pickle.dumps({"w": Bite(function, *args)}, protocol)
    if container == "plain":
        pickled = pickle.dumps(Bite(function, *args), max(protocol, 2))
        (tmp_path / "model.pt").write_bytes(pickled)
    elif container == "legacy":
        parts = (LEGACY_MAGIC, 1001, {"little_endian": True})
        (tmp_path / "model.pt").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + pickled)
    else:
        archive(tmp_path, pickled, script=container == "script")
    refused(
        tmp_path / "model.pt",
        r"an object of [\w.]+, not a (state dict|tensor with a name).* Nothing was run|a plain pickle",
    )
    assert not (tmp_path / "bitten").exists()


def test_no_known_gadget_is_looked_up_by_any_opcode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    ordinary = builtins.__import__
    seen: set[str] = set()
    for module, name in gadgets.NAMES:
        forms = gadgets.forms(module, name)
        few = {form: forms[form] for form in ("GLOBAL, REDUCE", "STACK_GLOBAL, REDUCE")}
        for form, pickled in (few if module in seen else forms).items():
            seen.add(module)
            file = archive(tmp_path, pickled, script=form.startswith("B"))
            with monkeypatch.context() as watched:
                watched.setattr(builtins, "__import__", lambda name, *x: (asked.append(name), ordinary(name, *x))[1])
                with suppress(WeightsError):  # a stand-in that the pickle drops leaves an empty state dict
                    assert not read(file)
            assert module not in asked, (module, name, form)
    assert not (tmp_path / "bitten").exists()


@pytest.mark.parametrize("module", ["torch.storage", "torch", "torch._utils", "collections", "torch.jit._pickle"])
def test_names_of_known_modules_are_not_walked(tmp_path, module):
    """A name that a module re-exports, or an attribute of an object in it, counts as another name."""
    walks = ("OrderedDict.__init__", "FloatStorage.__class__", "_rebuild_tensor_v2.x", "")
    for name in ("os", "sys", "os.system", *walks):
        pickled = text(module) + text(name) + b"\x93."
        refused(archive(tmp_path, pickled), f"an object of {module}.*, not a state dict. Nothing was run")


def test_two_pickles_of_one_name_are_refused(tmp_path):
    file = archive(tmp_path, tensor())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(file, "a") as more:
        more.writestr("model/data.pkl", b"cos\nsystem\n" + text("touch bitten") + b"\x85R.")
    refused(file, "two records named 'model/data.pkl'")


HOSTILE = {
    "name from the stack": (text("os") + text("system") + b"\x93" + text("ls") + b"\x85R.", "an object of os.system"),
    "dotted name": (b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93.", "OrderedDict.from"),
    "class of a script": (b"c__torch__.os\nsystem\n)\x81.", "an object of __torch__.os.system"),
    "numbers as a name": (b"K\x01K\x02\x93.", "the name of a global is not a string"),
    "INST": (b"(ios\nsystem\n.", "an object of os.system, not a state dict"),
    "OBJ": (b"(ccollections\nOrderedDict\no.", "an object of a list, not a state dict"),
    "NEWOBJ_EX": (b"cos\nsystem\n)}\x92.", "an object of os.system, not a state dict"),
    "EXT1": (b"\x82\x01.", "uses the opcode EXT1"),
    "EXT2": (b"\x83\x01\x01.", "uses the opcode EXT2"),
    "EXT4": (b"\x84\x01\x01\x01\x00.", "uses the opcode EXT4"),
    "READONLY_BUFFER": (b"N\x98.", "uses the opcode READONLY_BUFFER"),
    "FROZENSET": (b"(\x91.", "an object of a set, not a state dict"),
    "EMPTY_SET": (b"\x8f.", "an object of a set, not a state dict"),
    "BYTEARRAY8": (b"\x96" + struct.pack("<Q", 1) + b"a.", "uses the opcode BYTEARRAY8"),
    "storage of a gadget": (
        STORAGE.replace(b"torch\nFloatStorage", b"os\nsystem") + b"t.",
        "a tuple, not a state dict",
    ),
    "persistent id of a call": (DICT + b"Q.", "names its storages in an unknown way"),
    "state over state": (DICT + b"}" + text("__class__") + b"Nsb]b.", "sets the state of a dict"),
    "state of a class": (b"ccollections\nOrderedDict\n}b.", "sets the state of a Call"),
    "escapes in a name": (b"ctorch\\.x\nFloat\\qStorage\n.", "not a state dict"),
    "memory of a mark": (b"(q\x00.", "it adds to a value that is no object"),
    "PERSID": (b"P0\n.", "uses the opcode PERSID"),
    "NEXT_BUFFER": (b"\x97.", "uses the opcode NEXT_BUFFER"),
    "calls a text": (text("os.system") + b")R.", "calls 'os.system'"),
    "calls a storage class": (b"ctorch\nFloatStorage\n)R.", "calls a Element"),
    "calls what a call gave": (DICT + b")R.", "calls a dict"),
    "arguments that are no tuple": (b"ccollections\nOrderedDict\n]R.", "calls a Call"),
    "arguments that do not fit": (b"ccollections\nOrderedDict\n]\x85R.", "wrong parts"),
    "tensor of nothing": (TENSOR + b")R.", "wrong parts"),
    "tensor of texts": (TENSOR + b"(" + text("a") * 6 + b"tR.", "no storage"),
    "parameter of a text": (b"ctorch._utils\n_rebuild_parameter\n(" + text("a") + b"\x89" + DICT + b"tR.", "'a', not"),
    "state of a list": (b"]}b.", "sets the state of a list"),
    "state of a tensor": (tensor()[9:-2] + b"}b.", "sets the state of a Strided"),
    "state that is a text": (DICT + text("__class__") + b"b.", "sets the state of a dict"),
    "list as a key": (b"}]Ns.", "the key a list is a NoneType"),
    "tuple as a key": (b"})Ns.", "the key a tuple is a NoneType"),
    "huge number as a key": (b"}\x8a\x09" + b"\x7f" * 9 + b"Ns.", "the key a int is a NoneType"),
    "huge number": (b"\x8b" + struct.pack("<i", 1 << 16) + b"\x7f" * (1 << 16) + b".", "a number of 524287 bits"),
    "memory it never filled": (b"h\x07.", "reads entry 7"),
    "stack that is empty": (b"0.", "a mark is missing"),
    "mark that is missing": (b"t.", "a mark is missing"),
    "mark that stays open": (b"N(.", "does not end with exactly one object"),
    "two objects": (b"NN.", "does not end with exactly one object"),
    "no end": (b"N", "exhausted before seeing STOP"),
    "append to a number": (b"K\x01K\x02a.", "no list"),
    "item of a list": (b"]K\x01K\x02s.", "no dict"),
    "key without a value": (b"}(K\x01u.", "a key has no value"),
    "protocol of the future": (b"\x80\x09N.", "protocol 9"),
    "unknown opcode": (b"\xff.", "damaged"),
    "text beyond the end": (b"X\xff\xff\xff\x7fab.", "damaged"),
    "text that is no UTF-8": (b"X\x01\x00\x00\x00\xff.", "damaged"),
    "persistent id": (b"NQ.", "names its storages in an unknown way"),
    "storage of a text": (STORAGE.replace(b"ctorch\nFloatStorage\n", text("F")) + b"t.", "in an unknown way"),
    "storage that shrinks": (STORAGE + STORAGE.replace(b"K\x04", b"K\x03") + b"t.", "has two different descriptions"),
    "a number": (b"K\x01.", "it contains 1, not a state dict"),
    "a list": (b"].", "it contains a list"),
    "state_dict that is a list": (b"}" + text("state_dict") + b"]s.", "entry 'state_dict' is a list"),
    "no tensor in it": (b"}" + text("model") + b"}s.", "entry 'model' is a dict, not a tensor"),
    "name that is a number": (b"}K\x01Ns.", "entry 1 is a NoneType"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_pickle_that_is_no_state_dict(tmp_path, case):
    pickled, words = HOSTILE[case]
    refused(archive(tmp_path, pickled), words)


SPOILT_TENSORS = {
    "reaches beyond": (b"K\x00K\x05\x85K\x01\x85\x89" + DICT, "needs more bytes than its storage"),
    "starts beyond": (b"K\x04K\x01\x85K\x01\x85\x89" + DICT, "needs more bytes than its storage"),
    "strides beyond": (b"K\x00K\x02\x85K\x09\x85\x89" + DICT, "needs more bytes than its storage"),
    "starts before": (b"J\xff\xff\xff\xffK\x04\x85K\x01\x85\x89" + DICT, "impossible sizes"),
    "strides back": (b"K\x03K\x04\x85J\xff\xff\xff\xff\x85\x89" + DICT, "impossible sizes"),
    "repeats one element": (b"K\x00J\x00\x00\x00\x40\x85K\x00\x85\x89" + DICT, "needs more bytes than its storage"),
    "shape of truths": (b"K\x00\x88\x85K\x01\x85\x89" + DICT, "impossible sizes"),
    "shape and strides differ": (b"K\x00K\x04\x85)\x89" + DICT, "but 0 strides"),
    "many dimensions": (b"K\x00(" + b"K\x01" * 40 + b"t(" + b"K\x01" * 40 + b"t\x89" + DICT, "impossible sizes"),
    "endless and empty": (b"K\x00K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f\x86K\x01K\x01\x86\x89" + DICT, "does not fit"),
    "conjugate": (b"K\x00K\x04\x85K\x01\x85\x89" + DICT + b"}" + text("conj") + b"\x88s", "negated or conjugated"),
}


@pytest.mark.parametrize("case", SPOILT_TENSORS)
def test_a_tensor_that_is_not_in_its_storage(tmp_path, case):
    tail, words = SPOILT_TENSORS[case]
    refused(archive(tmp_path, tensor(tail)), words)


ONE = tensor()[9:-2]  # the tensor alone
MODULE = b"c__torch__\nM\n)\x81"
WHOLE = MODULE + b"}" + text("w") + ONE + b"sb"


def test_a_small_file_cannot_claim_endless_memory(tmp_path):
    twice = b"".join(text(name) + b"h\x01s" for name in "ab")
    assert list(read(archive(tmp_path, ONE + b"q\x010}" + twice + b"."))) == ["a", "b"]
    thousand = ONE.replace(b"K\x04", b"M\xe8\x03") + b"q\x010}"
    many = b"".join(text(str(i)) + b"h\x01s" for i in range(70))
    refused(archive(tmp_path, thousand + many + b".", **{"data/0": bytes(4000)}), "more than 16 times the bytes")


def test_a_small_file_cannot_claim_endless_time(tmp_path, monkeypatch):
    doubled = b")" + b"2\x86" * 5000  # 2**5000 empty tuples, if anyone should look at them all
    refused(archive(tmp_path, doubled + b"."), "it contains a tuple")
    refused(archive(tmp_path, b"}" + doubled + b"Ns."), "the key a tuple")
    monkeypatch.setattr("cjkclip.checkpoints.weights.pickle.MAX_STEPS", 5000)
    refused(archive(tmp_path, b"N0" * 2501 + b"}."), "more than 5000 steps")


def test_a_module_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cjkclip.checkpoints.weights.rebuild.MAX_PARTS", 2000)
    inside = MODULE + b"}" + text("m") + WHOLE + b"sb."
    assert list(read(archive(tmp_path, inside, script=True))) == ["m.w"]
    twice = b"q\x000" + MODULE + b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00ub"
    refused(archive(tmp_path, WHOLE + twice * 60 + b".", script=True), "more than 2000 parts")
    itself = MODULE + b"q\x00}" + text("a") + b"h\x00sb."
    refused(archive(tmp_path, itself, script=True), "too long names")
    refused(archive(tmp_path, MODULE + b"}" + text("n" * 5000) + b"Nsb.", script=True), "a part of its module")
    same = MODULE + b"}(" + text("a.w") + ONE + text("a") + WHOLE + b"ub."
    refused(archive(tmp_path, same, script=True), "two tensors have the name 'a.w'")


def test_a_name_has_to_be_valid_unicode(tmp_path):
    name = b"X\x03\x00\x00\x00" + "\ud800".encode("utf-8", "surrogatepass")
    refused(archive(tmp_path, b"}" + name + ONE + b"s."), r"the tensor name '\\ud800' is not valid Unicode")


def test_threads_that_read_at_once_leave_the_warnings_as_they_were():
    inside, done = threading.Event(), threading.Event()
    before = list(warnings.filters)

    def first(_: str) -> str:
        inside.wait(1)  # for the second, which must not be in there yet
        return "first"

    def second(_: str) -> str:
        inside.set()
        done.wait(1)
        return "second"

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(Machine(first, str).run, io.BytesIO(b"cany\nname\n."))
        one.add_done_callback(lambda _: done.set())
        two = pool.submit(Machine(second, str).run, io.BytesIO(b"cany\nname\n."))
        assert (one.result(), two.result()) == ("first", "second")
    after, warnings.filters[:] = list(warnings.filters), before
    assert after == before
