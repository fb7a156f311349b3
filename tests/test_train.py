"""Training: augmentation, batches, the loop on a tiny problem, from a model to a model, a user's pairs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

import cjkclip
from cjkclip import config
from cjkclip.engines.torch.towers import build
from cjkclip.errors import FactsError, InputError
from cjkclip.text.bpe_rules import OPENAI
from cjkclip.train import (
    Corpus,
    InMemory,
    Recipe,
    Thing,
    finetune,
    fit,
    grown,
    mean,
    measure_statistics,
    read_pairs,
    step,
    write_model,
)
from cjkclip.train.augment import plain
from cjkclip.train.recipes import moji
from cjkclip.train.step import Learner
from cjkclip.train.tokenizer import train_bpe
from support.drawn import OFF, STRONG, shapes

NAMES = ["猫", "犬", "강아지", "고양이", "apple", "苹果", "りんご", "蘋果"]


def corpus(captions: tuple[str, ...] = tuple(NAMES)) -> Corpus:
    things = [Thing(looks=((n,),), captions=(n,), weights=(1.0,)) for n in range(8)]
    return Corpus(InMemory(pixels=shapes()), things, captions)


def test_texts_that_things_share_are_right_for_all_of_them():
    looks = ((0,),)
    things = [
        Thing(looks=looks, captions=(0, 2), weights=(1, 1)),
        Thing(looks=looks, captions=(1, 2), weights=(1, 1)),
        Thing(looks=looks, captions=(1,), weights=(1,)),
    ]
    found = Corpus(InMemory(pixels=shapes()), things, ["顔", "face", "动物"])
    right = found.right(np.array([0, 1, 2]), np.array([0, 1, 2]))
    assert right.tolist() == [[True, False, True], [False, True, True], [False, True, False]]
    with pytest.raises(InputError, match="thing 1 of 2"):
        Corpus(found.pictures, [things[0], replace(things[1], captions=())], ["a", "b", "c"])


def test_batches_show_everything_once_before_anything_twice():
    batches = corpus().batches(3, views=1, captions=1, seed=0)
    drawn = [int(n) for _ in range(8) for n in next(batches).thing]
    assert sorted(drawn[:8]) == list(range(8))
    assert sorted(drawn[8:16]) == list(range(8))
    two = next(corpus().batches(6, views=2, captions=1, seed=0))
    assert two.thing.tolist() == [n for n in two.thing[::2] for _ in "12"]
    assert two.right.shape == (6, 3)
    assert (two.right.sum(axis=1) == 1).all()


def tiny(vocabulary: int, size: int = 32) -> config.Model:
    model = moji.model(vocabulary, size)
    assert model.text is not None
    return replace(
        model,
        vision=config.ResNet(image_size=size, width=8, stages=(1, 1, 1, 1), heads=4),
        text=replace(model.text, width=32, depth=1, heads=2, mlp=64),
        embed=32,
    )


@pytest.fixture(scope="module")
def words():
    return train_bpe(NAMES * 3, 560, replace(OPENAI, context=32))


RECIPE = Recipe(
    steps=60, batch=8, lr=5e-3, warmup=5, average=0.9, anchors=1.0, augment=replace(OFF, shift=0.02), precision="fp32"
)


def trained(words, recipe: Recipe, **kwargs):
    torch.manual_seed(0)
    towers = build(tiny(words.vocab_size))
    found = corpus()
    return fit(towers, found, words(found.texts), recipe, **kwargs)


def test_eight_things_are_learnt_by_heart_and_saved(words, tmp_path):
    heard = []
    towers = trained(words, RECIPE, listen=lambda progress, _: heard.append(progress), every=20)
    assert [p.step for p in heard] == [20, 40, 60]
    assert heard[-1].loss < heard[0].loss
    clip = cjkclip.load(write_model(towers, words, tmp_path / "model", half=True))
    pictures = [PIL.Image.fromarray(p.transpose(1, 2, 0)) for p in shapes()]
    assert clip.logits(pictures, NAMES).argmax(axis=0).tolist() == list(range(8))


def test_a_seed_gives_the_same_weights_twice(words):
    recipe = replace(RECIPE, steps=4, augment=STRONG, blend_chance=0.5)
    one, same, other = (trained(words, replace(recipe, seed=seed)).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["vision.stem1.conv.weight"], other["vision.stem1.conv.weight"])


@pytest.mark.parametrize("split", [4, 99], ids=["two threads share", "one thread"])
def test_a_step_has_the_gradients_of_the_whole_loss(words, monkeypatch, split):
    monkeypatch.setattr(step, "SPLIT", split)
    towers, found = build(tiny(words.vocab_size)), corpus()
    vit = config.Vit(
        width=32,
        depth=1,
        heads=2,
        mlp=64,
        act="gelu",
        eps=1e-5,
        image_size=32,
        patch=8,
        patch_bias=False,
        pre_norm=True,
        project=True,
    )
    towers = build(replace(towers.config, vision=vit))  # whose pictures do not depend on each other
    learner = Learner(towers, found, words(found.texts), RECIPE)
    batch = next(found.batches(8, views=1, captions=1, seed=0))
    pixels, ids = torch.randn(8, 3, 32, 32), torch.from_numpy(words(found.texts).ids)[batch.captions]
    mask = torch.from_numpy(words(found.texts).mask)[batch.captions]
    loss = learner.loss(towers.vision(pixels), towers.text(ids), batch)
    parameters = [*towers.parameters(), learner.anchors]
    expected = torch.autograd.grad(loss, parameters)
    monkeypatch.setattr(learner.optimiser, "step", lambda: None)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: None)
    with ThreadPoolExecutor(2) as side:
        assert float(learner.step(pixels, ids, mask, batch, side)) == pytest.approx(loss.item(), abs=1e-5)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)


def test_the_average_is_what_it_says(words):
    torch.manual_seed(0)
    towers, found = build(tiny(words.vocab_size)), corpus()
    learner = Learner(towers, found, words(found.texts), RECIPE)
    before = learner.average.state_dict()["vision.stem1.conv.weight"].clone()
    with torch.no_grad():
        towers.vision.stem1.conv.weight.add_(1)
    learner.steps = 1
    learner._follow()  # after the first step, 1 / 10 of the old value is kept
    after = learner.average.state_dict()["vision.stem1.conv.weight"]
    assert torch.allclose(after, before + 0.9)


def test_statistics_are_those_of_the_pictures_themselves(words):
    towers = build(tiny(words.vocab_size)).eval()
    settled = measure_statistics(towers, corpus(), batch=8, batches=3)
    image = moji.model(words.vocab_size, 32).image
    mean, std = (torch.tensor(v)[:, None, None] for v in (image.mean, image.std))
    pixels = (plain(torch.from_numpy(shapes()).float() / 255) - mean) / std
    first = towers.vision.stem1.conv(pixels)  # all eight are in every batch, so each batch's mean is that of all
    assert torch.allclose(settled.vision.stem1.bn.running_mean, first.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(settled.vision.stem1.bn.running_var, first.var(dim=(0, 2, 3)), atol=1e-5)
    assert not settled.training
    assert settled.vision.stem1.bn.momentum == towers.vision.stem1.bn.momentum == 0.1  # for a run that goes on with it
    assert torch.equal(settled.text.token.weight, towers.text.token.weight)
    assert torch.equal(towers.vision.stem1.bn.running_mean, torch.zeros(4))


def test_a_loss_that_is_no_number_is_told(words):
    with pytest.raises(InputError, match="lower the recipe's lr"):
        trained(words, replace(RECIPE, steps=8, lr=1e18, clip_norm=1e30), every=1)
    with pytest.raises(InputError, match="batch is 0"):
        replace(RECIPE, batch=0)


def test_growing_keeps_every_weight_and_the_old_answers(words):
    towers = build(tiny(words.vocab_size)).eval()
    same, larger = grown(towers, 32).eval(), grown(towers, 64).eval()
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.allclose(same.vision(pixels), towers.vision(pixels), atol=1e-6)
    assert larger.vision(torch.randn(2, 3, 64, 64)).shape == (2, 32)
    assert larger.config.image.size == larger.config.vision.image_size == 64
    with pytest.raises(InputError, match="multiple of 32"):
        grown(towers, 48)


def pairs_file(folder, text: str):
    for name, colour in (("red.png", "red"), ("blue.png", "blue")):
        PIL.Image.new("RGB", (40, 30), colour).save(folder / name)
    file = folder / "pairs.tsv"
    file.write_text(text, "utf-8")
    return file


def test_a_model_goes_on_learning_from_a_users_pairs(words, tmp_path):
    start = write_model(build(tiny(words.vocab_size)), words, tmp_path / "start")
    file = pairs_file(tmp_path, "\ufeffred.png\t红色\nred.png\t빨강\r\nblue.png\t青\n\n")
    clip = finetune(start, file, tmp_path / "out", replace(RECIPE, steps=40, batch=2, augment=OFF, captions=2))
    scores = clip.logits([tmp_path / "red.png", tmp_path / "blue.png"], ["红色", "빨강", "青"])
    assert scores.argmax(axis=0).tolist() == [0, 0, 1]
    assert cjkclip.load(tmp_path / "out").fingerprint == clip.fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("red.png\t红\nred.png 红\n", "line 2: 1 fields"),
        ("red.png\t红\tx\n", "line 1: 3 fields"),
        ("red.png\t \n", "line 1: 2 fields, expected image<TAB>caption, neither empty"),
        ("gone.png\t红\n", r"line 1: .*gone.png: no such file"),
        ("\n\n", "0 good pairs"),
    ],
)
def test_lines_that_are_no_pairs_are_told_by_number(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_pairs(pairs_file(tmp_path, text))


def test_files_that_are_no_pairs_are_told(tmp_path, words):
    with pytest.raises(InputError, match="no such file"):
        read_pairs(tmp_path / "none.tsv")
    (tmp_path / "latin.tsv").write_bytes("red.png\tété".encode("latin-1"))
    with pytest.raises(InputError, match="not a UTF-8 text file"):
        read_pairs(tmp_path / "latin.tsv")
    towers = build(replace(tiny(words.vocab_size), image=None))
    with pytest.raises(FactsError, match="this model has no preprocessing"):
        fit(towers, corpus(), words(NAMES), RECIPE)


def test_the_mean_of_towers_is_the_mean_of_their_weights(words):
    one, two = (build(tiny(words.vocab_size)) for _ in "12")
    middle = mean([one, two]).state_dict()
    name = "vision.stem1.conv.weight"
    assert torch.allclose(middle[name], (one.state_dict()[name] + two.state_dict()[name]) / 2)
    assert not torch.allclose(middle[name], one.state_dict()[name])
    with pytest.raises(InputError, match="all of the same config"):
        mean([one, grown(two, 64)])
