"""The sentence that names a processor: cores, what it multiplies, packages, and nothing that tells whose it is."""

import platform

import pytest

import cjkclip
from cjkclip.machine import processor


def test_the_machine_is_described_and_not_named() -> None:
    found = processor.describe(("cjkclip", "no-such-package"))
    assert found["packages"] == {"cjkclip": cjkclip.__version__}
    assert found["cores"] >= 1
    said = processor.sentence(found)
    assert said.startswith(", ".join([found["processor"], f"{found['cores']} core"]))
    assert said == f"{processor.hardware(found)}; {processor.software(found)}"
    assert cjkclip.__version__ not in processor.hardware(found)
    assert not platform.node() or platform.node() not in said
    assert "/" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flags\t\t: fpu avx512f avx512_vnni\nflags\t\t: fpu", ["AVX-512 VNNI", "no bf16"]),
        ("flags\t\t: avx512_bf16 avx512_vnni\n", ["AVX-512 VNNI", "bf16"]),
        (
            "flags\t\t: avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_int8\n",
            ["AVX-512 VNNI", "AVX VNNI", "AMX", "bf16"],
        ),
        ("flags\t\t: fpu avx2\n", ["no bf16"]),
        ("Features\t: asimd asimddp i8mm bf16\n", ["I8MM", "bf16"]),
        ("hw.optional.arm.FEAT_BF16: 0\nhw.optional.arm.FEAT_I8MM: 1\n", ["I8MM", "no bf16"]),
        ("model name\t: bf16\n", []),
        ("", []),
    ],
)
def test_what_a_processor_multiplies_is_read_off_its_flags(text: str, said: list[str]) -> None:
    assert processor.multiplies(text) == said


def test_what_it_multiplies_stands_beside_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "cpu_text", lambda: "model name\t: Xeon @ 2.50GHz\nflags\t\t: avx512_vnni\n")
    monkeypatch.setattr(processor, "cores", lambda: 2)
    found = processor.describe(())
    assert processor.hardware(found) == "Xeon @ 2.50GHz, 2 cores, AVX-512 VNNI, no bf16"
    assert processor.hardware(found | {"cores": 1, "multiplies": []}) == "Xeon @ 2.50GHz, 1 core"
