"""The pages of `make bench`: one section per processor, and an aim in each row."""

import importlib
import re
from pathlib import Path

import pytest
from bench import aims, pages
from bench.timing import Row, markdown

from cjkclip.machine import processor
from support.sources import ROOT

DOCS = ROOT / "docs"
PAGES = [DOCS / "benchmarks.md", *sorted((DOCS / "benchmarks").glob("*.md"))]
TOP = "# Speed\n\nBy hand, ## too.\n\n- a list\n"
A = "## AMD EPYC, 2 cores, bf16\n\nopenvino 1\n\n| a |\n|---|\n\nlast words\n"
B = "## Xeon @ 2.50GHz, 2 cores, no bf16\n\nopenvino 1\n\n| b |\n"
PAGE = f"{TOP}\n{A}\n{B}"


@pytest.mark.parametrize(
    ("heading", "page"),
    [
        ("Xeon @ 2.50GHz, 2 cores, no bf16", f"{TOP}\n## {{}}\n\nnew\n\n{A}"),
        ("AMD EPYC, 2 cores, bf16", f"{TOP}\n## {{}}\n\nnew\n\n{B}"),
        ("AMD EPYC, 2 cores", f"{TOP}\n## {{}}\n\nnew\n\n{A}\n{B}"),  # an older one of the same name
        ("AMD EPYC, 24 cores, bf16", f"{TOP}\n## {{}}\n\nnew\n\n{A}\n{B}"),
        ("AMD EPYC 9, 2 cores, bf16", f"{TOP}\n## {{}}\n\nnew\n\n{A}\n{B}"),
        ("AMD EPYC, 1 core", f"{TOP}\n## {{}}\n\nnew\n\n{A}\n{B}"),
    ],
)
def test_a_run_replaces_the_section_of_its_own_processor(heading: str, page: str) -> None:
    made = pages.merged(PAGE, heading, "new")
    assert made == page.format(heading)
    assert pages.merged(made, heading, "new") == made


def test_the_first_run_writes_below_the_introduction() -> None:
    assert pages.merged(TOP, "A, 1 core", "new\n") == f"{TOP}\n## A, 1 core\n\nnew\n"


def test_what_is_written_tells_processor_and_packages(tmp_path: Path) -> None:
    file, found = tmp_path / "page.md", pages.here()
    file.write_text(TOP, "utf-8")
    pages.write(file, "| 猫 |")
    assert (
        file.read_text("utf-8") == f"{TOP}\n## {processor.hardware(found)}\n\n{processor.software(found)}\n\n| 猫 |\n"
    )


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_the_pages_are_as_a_run_would_write_them(file: Path) -> None:
    page = file.read_text("utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert len(set(headings)) == len(headings)
    for newest in page.split("\n## ")[1:2]:
        heading, _, body = newest.partition("\n\n")
        assert pages.merged(page, heading, body) == page
    if file.name != "gpu.md":  # whose sections are named after cards
        assert all(re.match(r".+, \d+ cores?\b", heading) for heading in headings)
        assert headings


AMD = {"processor": "AMD EPYC", "multiplies": ["AVX-512 VNNI", "bf16"]}
XEON = {"processor": "Xeon @ 2.50GHz", "multiplies": ["AVX-512 VNNI", "no bf16"]}
OLDER = {"processor": "AMD EPYC", "multiplies": ["no bf16"]}
UNKNOWN = {"processor": "", "multiplies": []}


def row(job: str, ours: str, peer: str) -> Row:
    return Row(job=job, ours=ours, peer=peer, ours_s=0.5, peer_s=1.0, difference=0.0)


@pytest.mark.parametrize(
    ("words", "amd", "xeon"),
    [
        (("image tower, 8 at once", "fp32: openvino fp32", "transformers fp32"), "2.3", "1.0"),
        (("image tower, 32 at once", "default: openvino bf16", "transformers fp32"), "4.8", "(4.8)"),
        (("image tower, 32 at once", "default: openvino fp32", "transformers, bf16 weights"), "1.4", "(1.4)"),
        (("image tower, 8 at once", "openvino int8", "transformers fp32"), "8.0", "8.0"),
        (("tokenise 1024 captions", "tokenizer", "cn_clip.tokenize"), "1.6", "1.6"),
        (
            ("128 captions", "default: openvino bf16", "transformers fp32, padded to 52 as cn_clip does"),
            "12.0",
            "(12.0)",
        ),
        (
            (
                "32 photographs of 12 MP to vectors on disk",
                "exact=False, default: x bf16",
                "sentence-transformers' encode",
            ),
            "8.5",
            "(8.5)",
        ),
        (("32 photographs of 2 MP to vectors on disk", "exact=True, default: x bf16", "cn_clip's way"), "5.0", "(5.0)"),
        (("32 photographs of 2 MP to vectors on disk", "exact=True, openvino int8", "cn_clip's way"), "", ""),
        (("JPEG of 2 MP to pixels", "exact=False", "open_clip's transform"), "", ""),
        (("ViT-B/32, 1 picture", "openvino fp32", "transformers fp32 sdpa"), "", ""),
    ],
)
def test_a_row_tells_its_aim_on_this_machine(words: tuple[str, str, str], amd: str, xeon: str) -> None:
    assert [aims.aim(row(*words), here) for here in (AMD, XEON)] == [amd, xeon]
    least = f"({xeon})" if "int8" in words[1] and xeon else xeon
    assert [aims.aim(row(*words), here) for here in (OLDER, UNKNOWN)] == [least, least]


def test_an_aim_stands_beside_the_ratio() -> None:
    made = aims.aimed([row("one query", "default: openvino fp32", "transformers fp32")], XEON)
    heads, _, cells = (line.strip("| ").split(" | ") for line in markdown(made).splitlines())
    assert dict(zip(heads, cells, strict=False))["aim"] == "(5.0)"
    assert cells[heads.index("aim") - 1] == "2.00"
    assert len(heads) == len(markdown(made).splitlines()[1].strip("|").split("|"))
    left = aims.missed(made, AMD)
    assert len(left) == len(aims.AIMS) - 1
    assert 0 < len(aims.missed(made, OLDER)) < len([one for one in left if one.needs])
    assert "one query" not in [one.job for one in left]


def test_every_program_of_bench_and_tools_can_be_imported() -> None:
    """Nothing else runs most of them, so that a name that moved would be noticed at the next measurement only."""
    root = DOCS.parent
    files = [file for top in ("bench", "tools") for file in sorted((root / top).rglob("*.py"))]
    modules = [".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert {"bench.haste", "tools.moji_train", "tools.moji_data"} <= set(modules)
    for module in modules:
        importlib.import_module(module)
