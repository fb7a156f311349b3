"""The parts of `cjkclip bench`: work counted exactly, medians, the limit, settings, distances and the advice."""

import dataclasses
import itertools
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip import engines, probes
from cjkclip.config import Bert, Model, ResNet, Text, Vit
from cjkclip.errors import CheckpointError, MissingDependencyError
from cjkclip.speed import clock, jobs, products, work
from cjkclip.speed.advice import advise
from cjkclip.speed.jobs import EXACT, BenchRow, Distance, Setting, Timing
from cjkclip.text.wordpiece import chinese_bert
from families import GOLDEN
from support.engines import MODELS

BF16 = Setting(engine="openvino", precision="bf16", device="cpu")
TORCH = Setting(engine="torch", precision="fp32", device="cpu")


def transformer(tower: Vit | Text | Bert, tokens: int, asking: int) -> int:
    """FLOPs of all blocks by the textbook; in the last block only `asking` tokens ask."""
    width, flops = tower.width, 0
    for block in range(tower.depth):
        rows = asking if block == tower.depth - 1 else tokens
        projections = 2 * width * width * (2 * rows + 2 * tokens)  # q and out, k and v
        attention = 2 * 2 * rows * tokens * width
        flops += projections + attention + 2 * 2 * rows * width * tower.mlp
    return flops


def vit(tower: Vit, embed: int, *, whole: bool = False) -> int:
    patches = (tower.image_size // tower.patch) ** 2
    first = 2 * patches * tower.width * 3 * tower.patch**2
    blocks = transformer(tower, patches + 1, patches + 1 if whole else 1)
    return first + blocks + 2 * tower.width * embed * tower.project


def resnet(tower: ResNet, embed: int, *, whole: bool = False) -> int:
    half, side = tower.width // 2, tower.image_size // 2
    flops = 2 * side * side * 9 * (3 * half + half * half + half * tower.width)
    side, channels = side // 2, tower.width
    for stage, blocks in enumerate(tower.stages):
        inner = tower.width * 2**stage
        for block in range(blocks):
            after = side // 2 if stage and not block else side  # the stride is an average pool after the second
            flops += 2 * side * side * (channels * inner + 9 * inner * inner) + 2 * after * after * inner * 4 * inner
            if channels != 4 * inner:
                flops += 2 * after * after * channels * 4 * inner
            side, channels = after, 4 * inner
    tokens = side * side + 1
    asking = tokens if whole else 1
    pool = 2 * channels * (asking * channels + 2 * tokens * channels + asking * embed)
    return flops + pool + 2 * 2 * asking * tokens * channels


def text(tower: Text | Bert, embed: int, length: int, *, whole: bool = False) -> int:
    blocks = transformer(tower, length, length if whole else 1)
    if isinstance(tower, Text):
        return blocks + 2 * tower.width * embed * tower.project
    pooler = 0 if tower.head == "project" else 2 * tower.width**2
    return blocks + pooler + (0 if tower.head == "pooler" else 2 * tower.width * embed)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_work_is_what_the_textbook_says_less_what_nobody_reads(model: Model) -> None:
    count = vit if isinstance(model.vision, Vit) else resnet
    assert work.image(model) == count(model.vision, model.embed)
    assert model.text is not None
    for length in (1, 4, 9):
        assert work.text(model, length) == text(model.text, model.embed, length)


def test_a_tower_without_projection_and_of_one_block() -> None:
    vision, words = MODELS["vit"].vision, MODELS["vit"].text
    assert isinstance(vision, Vit)
    assert isinstance(words, Text)
    bare = Model(
        vision=dataclasses.replace(vision, project=False, depth=1),
        text=dataclasses.replace(words, project=False, depth=1),
        image=None,
        embed=24,
        scale=None,
    )
    assert work.image(bare) == vit(bare.vision, 24)  # pyright: ignore[reportArgumentType]
    assert work.text(bare, 5) == text(bare.text, 24, 5)  # pyright: ignore[reportArgumentType]


def published(**shape: int) -> Vit:
    return Vit(act="gelu", eps=1e-5, patch_bias=False, pre_norm=True, project=True, image_size=224, **shape)


# GFLOPs of the image tower in open_clip's docs/model_profile.csv, where every token asks in every block
@pytest.mark.parametrize(
    ("tower", "embed", "gflops"),
    [
        (published(width=768, depth=12, heads=12, mlp=3072, patch=32), 512, 8.82),
        (published(width=768, depth=12, heads=12, mlp=3072, patch=16), 512, 35.13),
        (published(width=1024, depth=24, heads=16, mlp=4096, patch=14), 768, 162.03),
        (ResNet(image_size=224, width=64, stages=(3, 4, 6, 3), heads=32), 1024, 12.22),
        (ResNet(image_size=224, width=64, stages=(3, 4, 23, 3), heads=32), 512, 19.54),
    ],
    ids=["B/32", "B/16", "L/14", "RN50", "RN101"],
)
def test_real_sizes_agree_with_published_counts(tower: Vit | ResNet, embed: int, gflops: float) -> None:
    count: Any = vit if isinstance(tower, Vit) else resnet
    needed, whole = count(tower, embed), count(tower, embed, whole=True)
    assert round(whole / 1e9, 2) == gflops
    assert work.image(Model(vision=tower, text=None, image=None, embed=embed, scale=None)) == needed < whole


def test_medians_warm_up_alternate_and_keep_to_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    took = {"a": itertools.chain([99.0], itertools.cycle([1.0, 5.0, 2.0])), "b": itertools.repeat(3.0)}
    now = [0.0]

    def call(name: str) -> None:
        seen.append(name)
        now[0] += next(took[name])

    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    calls = [lambda: call("a"), lambda: call("b")]
    assert clock.medians(calls, 3) == [2.0, 3.0]
    assert "".join(seen) == "ab" + "ab" * 3
    seen.clear()
    assert clock.medians(calls[1:], 10, budget=0.0) == [3.0]
    assert len(seen) == 1 + clock.FEWEST
    seen.clear()
    assert clock.medians(calls[1:], 10, budget=14.0) == [3.0]
    assert len(seen) == 1 + 5


@pytest.mark.parametrize("engine", products.PRODUCTS)
def test_a_product_multiplies_and_precisions_without_one_have_no_rate(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "SHAPES", ((16, 24, 40), (32, 8, 8)))
    for precision in ("fp32", "bf16"):
        assert (products.matrix_rate(engine, precision, rounds=2) or 0) > 0
    assert (products.matrix_rate(engine, "int8", rounds=2) is None) == (engine == "torch")
    assert products.matrix_rate("numpy", "fp32") is None


def test_the_best_shape_counts_and_slow_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gflop = [2e-9 * rows * width * out for rows, width, out in products.SHAPES]
    rates, asked = {1024: 50.0, 197 * 8: 200.0, 2048: 125.0}, list[int]()  # of calls that do two at once

    def product(rows: int, *_: object) -> int:
        asked.append(rows)
        return rows

    monkeypatch.setattr(
        products.importlib, "import_module", lambda _: SimpleNamespace(product=product, at_once=lambda _: 2)
    )
    sizes = iter(gflop)
    monkeypatch.setattr(products, "medians", lambda calls, *_: [next(sizes) / rates[calls[0]]])
    assert products.matrix_rate("openvino", "fp32") == pytest.approx(400.0)
    assert asked == [1024, 197 * 8, 197 * 8, 2048]  # larger ones would take 274 / 400 seconds and more


def test_a_gpu_is_asked_for_many_products_before_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from cjkclip.engines.torch import product as torch_product

    monkeypatch.setattr(torch_product, "kind", lambda _: "cuda")
    monkeypatch.setattr(torch_product, "AWAKE", 0)
    call, seen = torch_product.product(2, 3, 4, "fp32", "cpu"), list[Any]()
    linear = torch_product.torch.nn.functional.linear
    monkeypatch.setattr(
        torch_product.torch.nn.functional, "linear", lambda *given: seen.append(given) or linear(*given)
    )
    assert call is not None
    assert isinstance(call(), float)
    assert len(seen) == torch_product.at_once("cuda") > 10


def test_the_openvino_product_is_the_product() -> None:
    from cjkclip.engines.openvino import product as product_openvino

    call: Any = product_openvino.product(5, 7, 3, "fp32", "cpu")
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((5, 7), np.float32), rng.standard_normal((3, 7), np.float32)
    np.testing.assert_allclose(next(iter(call().values())), x @ weight.T, atol=1e-5)


def test_settings_are_those_that_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.here, "gpu", lambda: None)
    monkeypatch.setattr(engines, "fast", lambda *_: "bf16")
    assert [str(one) for one in jobs.settings("auto")][:2] == ["openvino fp32", "openvino bf16"]
    both = [str(one) for one in jobs.settings("openvino", int8=True)]
    assert both == ["openvino fp32", "openvino bf16", "openvino int8"]
    assert [str(one) for one in jobs.settings("torch")] == ["openvino fp32", "torch fp32", "torch bf16"]
    monkeypatch.setattr(engines, "fast", lambda *_: None)
    assert [str(one) for one in jobs.settings("auto")] == ["openvino fp32", "torch fp32"]
    monkeypatch.setattr(jobs, "find_spec", lambda _: None)
    assert jobs.settings("auto") == [EXACT]
    monkeypatch.setattr(engines.here, "gpu", lambda: "cuda")
    assert [str(one) for one in jobs.settings("torch")][1:] == ["torch fp32 on cuda", "torch bf16 on cuda"]
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        jobs.settings("torch")


def test_jobs_carry_the_work_of_their_own_inputs() -> None:
    clip = cjkclip.load("moji", engine="numpy")
    found = {job.name: job for job in jobs.tower_jobs(clip)}
    assert list(found) == ["1 picture", "8 pictures", "32 pictures", "1 query", "128 captions"]
    assert found["8 pictures"].flops == 8 * work.image(clip.config)
    assert np.shape(found["8 pictures"].call()) == (8, clip.embed_dim)
    captions = jobs.captions(clip.tokenizer)
    lengths = clip.tokenize(captions).mask.sum(axis=1)
    assert len(set(lengths.tolist())) > 3
    assert found["128 captions"].flops == sum(work.text(clip.config, int(n)) for n in lengths)
    assert found["1 query"].flops == work.text(clip.config, int(lengths[0]))
    assert np.shape(found["1 query"].call()) == (1, clip.embed_dim)


def test_captions_that_would_be_cut_come_last() -> None:
    tokenizer = chinese_bert()  # 52 tokens; Hangul takes one for each letter
    assert tokenizer(probes.captions(jobs.TEXTS)).truncated
    found = jobs.captions(tokenizer)
    assert len(set(found)) == len(found) == jobs.TEXTS
    assert not tokenizer(found).truncated


def test_distances() -> None:
    exact = {"image": np.float32([[1, 0], [0, 1]]), "text": np.float32([[0.6, 0.8]])}
    found = {"image": np.float32([[1, 0], [0.6, 0.8]]), "text": exact["text"]}
    apart = jobs.distances(found, exact)
    assert (apart["image"].difference, apart["image"].cosine) == pytest.approx((0.6, 0.8))
    assert (apart["text"].difference, apart["text"].cosine) == pytest.approx((0.0, 1.0), abs=1e-12)
    vectors = jobs.vectors(cjkclip.load(GOLDEN / "hf-clip-text-projection", engine="numpy"))
    assert list(vectors) == ["text"]


def test_vectors_that_are_no_numbers_are_refused() -> None:
    clip = cjkclip.load(GOLDEN / "hf-clip-text-projection", engine="numpy")
    clip.params["text.proj.weight"] = np.full_like(clip.params["text.proj.weight"], np.nan)
    with pytest.raises(CheckpointError, match="the text tower returns values that are not finite"):
        jobs.vectors(clip)


def test_captions_differ_and_a_photograph_is_the_same_each_time() -> None:
    assert len(set(probes.captions(1024))) == 1024
    file = probes.photograph(320, 240)
    assert file == probes.photograph(320, 240)
    assert file[:3] == b"\xff\xd8\xff"


def line(kind: Any, items: int, rate: float) -> BenchRow:
    return BenchRow(kind=kind, name=f"{kind} {items}", items=items, seconds=items / rate, flops=None)


def measured(setting: Setting, *rates: float, cosine: float = 1.0) -> Timing:
    """A setting with so many items a second: 1, 8 and 32 pictures, 1 and 128 texts."""
    kinds = [("image", 1), ("image", 8), ("image", 32), ("text", 1), ("text", 128)]
    lines = [line(kind, items, rate) for (kind, items), rate in zip(kinds, rates, strict=True)]
    return Timing(setting=setting, limit=None, rows=lines, distances={"image": Distance(difference=0.0, cosine=cosine)})


def test_advice_names_the_fastest_and_how_to_ask_for_it() -> None:
    both = [measured(EXACT, 10, 20, 30, 104, 100), measured(BF16, 20, 40, 60, 106, 200, cosine=0.9999)]
    *said, last = advise("m", {"facts": {"a": 1}}, both, [], BF16, 2)
    assert last.endswith("bf16 was accepted (its lowest cosine similarity is 0.99990, at least 0.9995 is required)")
    assert said == [
        "openvino bf16 is fastest for one picture at a time (20.0/s), many pictures (60.0/s), many texts (200/s):",
        "    cjkclip.load('m', facts={'a': 1})",
        "openvino fp32 is fastest for one text at a time (104/s):",  # alike, so the exact one
        "    cjkclip.load('m', facts={'a': 1}, precision='fp32')",
    ]
    assert advise("m", {}, [measured(TORCH, *[9] * 5)], [], EXACT, 2)[1] == (
        "    cjkclip.load('m', engine='torch', precision='fp32')"  # "auto" is not what it is beside another engine
    )


def test_advice_leaves_out_what_is_too_far_off() -> None:
    both = [measured(EXACT, 1, 1, 1, 1, 1), measured(BF16, 9, 9, 9, 9, 9, cosine=0.99)]
    said = advise("m", {}, both, [], EXACT, 2)
    assert said[1] == "    cjkclip.load('m')"
    assert "bf16 was not accepted (its lowest cosine similarity is 0.99000, at least 0.9995 is required)" in said[2]
    reason = "its lowest cosine similarity to openvino fp32 is 0.99000, below 0.9995"
    assert said[3] == f"openvino bf16 is not recommended: {reason}"
    near = [measured(EXACT, 1, 1, 1, 1, 1), measured(BF16, 9, 9, 9, 9, 9, cosine=0.9996)]
    assert "uses fp32 for small models" in advise("m", {}, near, [], EXACT, 2)[2]


def test_advice_on_batches_and_on_decoding() -> None:
    one = measured(EXACT, 100, 300, 200, 1, 1)
    plain = [line("decode", 1, 50), line("decode", 1, 120), line("tokenise", 1, 1)]
    said = advise("m", {}, [one], plain, EXACT, 2)
    assert said[3] == "smaller batches are faster: encode_image(pictures, batch_size=8)"
    assert "at up to 100/s" in said[4]
    assert "exact=False) decodes 240/s" in said[4]
    assert len(advise("m", {}, [one], plain, EXACT, 8)) == 4  # eight cores open enough
