"""Train and evaluate the bundled model.

    python -m tools.moji_train                     train on all training designs and write src/cjkclip/moji/
    python -m tools.moji_train --trial             train without EmojiOne and evaluate on it; src/ does not change
    python -m tools.moji_train --evaluate          evaluate the committed model on Twemoji: table, JSON, model card
    python -m tools.moji_train --rates             measure images per second of each run, and estimate the minutes

First run `python -m tools.moji_data render 64 96` for the images. Only --evaluate reads Twemoji.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tools.moji_data.packages import CACHE, ROOT
from tools.moji_data.render import stored

import cjkclip
from cjkclip.checkpoints.families.moji import FAMILY
from cjkclip.engines.torch.towers import Towers, build
from cjkclip.evals import moji as tests
from cjkclip.evals import report
from cjkclip.moji import concepts
from cjkclip.text.bpe import Bpe
from cjkclip.train import (
    Corpus,
    InMemory,
    Progress,
    Thing,
    fit,
    grown,
    mean,
    measure_statistics,
    towers_of,
    write_model,
)
from cjkclip.train.recipes import moji as recipe
from cjkclip.train.tokenizer import train_bpe

HOME = ROOT / "src" / "cjkclip" / "moji"
BENCHMARK = ROOT / "docs" / "benchmarks" / "moji.json"
HELD_OUT = "twemoji"
Records = list[dict[str, Any]]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trial", action="store_true", help="train without EmojiOne and evaluate on it")
    parser.add_argument("--evaluate", action="store_true", help="evaluate the committed model on Twemoji")
    parser.add_argument("--rates", action="store_true", help="measure 36 steps of each run and write nothing")
    parser.add_argument("--shorter", type=float, default=1.0, help="divide the number of steps by this (for trials)")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads per operation; both towers always run in parallel"
    )
    parser.add_argument("--design", default=None, help="evaluate the model in --out on this training design")
    parser.add_argument("--out", type=Path, default=CACHE / "model", help="directory of the trained model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.evaluate:
        evaluate()
        return
    if args.rates:
        rates()
        return
    if args.design:
        measure(cjkclip.load(args.out), args.design)
        return
    train(args.out, trial=args.trial, shorter=args.shorter)
    if args.trial:
        measure(cjkclip.load(args.out), recipe.TRIAL_DESIGN)
    else:
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            shutil.copy(args.out / name, HOME / name)


def train(out: Path, *, trial: bool, shorter: float) -> None:
    """Do all runs of the recipe, each into its own directory under `out`; finished runs are skipped."""
    records = training()
    tokenizer = words(records)
    before: Path | None = None
    for number, run in enumerate(recipe.RUNS, start=1):
        folder = out / f"run{number}"
        if not (folder / "model.safetensors").exists():
            unseen = recipe.TRIAL_DESIGN if trial else run.without
            corpus = gather(records, tuple(look for look in recipe.LOOKS if unseen not in look), run.size)
            towers = start(tokenizer, before, run.size, run.recipe.seed)
            shortened = replace(run.recipe, steps=max(1, int(run.recipe.steps / shorter)))
            towers = fit(towers, corpus, tokenizer(corpus.texts), shortened, listen=listener(), every=25)
            write_model(towers, tokenizer, folder)
        before = folder
    looks = tuple(look for look in recipe.LOOKS if not (trial and recipe.TRIAL_DESIGN in look))
    averaged = mean([towers_of(cjkclip.load(out / f"run{number}")) for number in recipe.AVERAGED])
    towers = measure_statistics(averaged, gather(records, looks, recipe.SIZE))
    write_model(towers, tokenizer, out, release=FAMILY.releases[0], half=True)


def rates() -> None:
    """Print an estimate of the recipe's time on this machine, from the median speed of each run's first steps."""
    records = training()
    tokenizer, minutes = words(records), 0.0
    for number, run in enumerate(recipe.RUNS, start=1):
        corpus, speeds = gather(records, recipe.LOOKS, run.size), list[float]()
        towers, brief = start(tokenizer, None, run.size, run.recipe.seed), replace(run.recipe, steps=36)
        listen = lambda progress, _, speeds=speeds: speeds.append(progress.pictures_per_second)  # noqa: E731
        fit(towers, corpus, tokenizer(corpus.texts), brief, listen=listen, every=6)
        rate = statistics.median(speeds)
        minutes += run.recipe.steps * run.recipe.batch / rate / 60
        print(f"run {number}: {rate:.0f} images/s, {minutes:.0f} min in total so far", flush=True)


def training() -> Records:
    """Return the records of the training concepts from `tools.moji_data`."""
    records: Records = json.loads((CACHE / "concepts.json").read_text(encoding="utf-8"))
    return [record for record in records if record["in_splits"] and record["split"] == "train"]


def start(tokenizer: Bpe, before: Path | None, size: int, seed: int) -> Towers:
    """Return the towers at the start of a run."""
    if before is None:
        torch.manual_seed(seed)
        return build(recipe.model(tokenizer.vocab_size, size))
    towers = towers_of(cjkclip.load(before))
    return towers if towers.config.image and towers.config.image.size == size else grown(towers, size)


def words(records: Records) -> Bpe:
    """Return a vocabulary trained on every name and keyword of the training concepts, in five languages."""
    texts = [text for r in records for lang in recipe.LANGUAGES for text in (r["name"][lang], *r["keywords"][lang])]
    return train_bpe(texts, recipe.VOCABULARY, recipe.RULES)


def gather(records: Records, looks: tuple[tuple[str, ...], ...], size: int) -> Corpus:
    """Return the images of these designs at one size and their captions, as a corpus."""
    images = {design: stored(design, size) for look in looks for design in look}
    pixels: list[np.ndarray] = []
    numbers: dict[str, int] = {}
    things: list[Thing] = []
    for record in records:
        rows: list[tuple[int, ...]] = []
        for look in looks:
            variants = [images[design][record["cp"]] for design in look if record["cp"] in images[design]]
            if variants:
                rows.append(tuple(range(len(pixels), len(pixels) + len(variants))))
                pixels += variants
        captions, weights = weighted_captions(record)
        things.append(
            Thing(
                looks=tuple(rows),
                captions=tuple(numbers.setdefault(text, len(numbers)) for text in captions),
                weights=weights,
                mirror=recipe.mirrors(record["name"]["en"], record["group"]),
            )
        )
    return Corpus(InMemory(pixels=np.stack(pixels).transpose(0, 3, 1, 2).copy()), things, list(numbers))


def weighted_captions(record: dict[str, Any]) -> tuple[list[str], tuple[float, ...]]:
    """Return every name and keyword of an emoji, and how often each is drawn."""
    captions: list[str] = []
    weights: list[float] = []
    for language in recipe.LANGUAGES:
        keywords = record["keywords"][language]
        captions += [record["name"][language], *keywords]
        weights += [recipe.NAME_SHARE, *((1 - recipe.NAME_SHARE) / len(keywords) for _ in keywords)]
    return captions, tuple(weights)


def listener() -> Callable[[Progress, Towers], None]:
    """Return a function that prints the progress of a run."""
    start_time = time.perf_counter()

    def listen(progress: Progress, _: Towers) -> None:
        minutes = (time.perf_counter() - start_time) / 60
        print(
            f"{minutes:6.1f} min  step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  "
            f"scale {progress.scale:.1f}  {progress.pictures_per_second:.0f} images/s",
            flush=True,
        )

    return listen


def measure(clip: cjkclip.Clip, design: str) -> list[tests.EvalRow]:
    """Run the tests on the concepts that a design contains, and print them."""
    size = clip.config.image.size if clip.config.image else recipe.SIZE
    pictures = {cp: Image.fromarray(rgba) for cp, rgba in stored(design, size).items()}
    rows = tests.evaluate(clip, pictures, [concept for concept in concepts() if concept.cp in pictures])
    report.show(rows)
    return rows


def evaluate() -> None:
    """Evaluate the committed model on Twemoji, which neither training nor any choice used."""
    clip = cjkclip.load("moji")
    rows = measure(clip, HELD_OUT)
    facts = {"model": "moji", "fingerprint": clip.fingerprint, "design": "Twemoji 1.2.5", "size": recipe.SIZE}
    BENCHMARK.parent.mkdir(parents=True, exist_ok=True)
    BENCHMARK.write_text(json.dumps(report.record(rows, **facts), indent=1, ensure_ascii=False) + "\n", "utf-8")
    card = HOME / "MODEL_CARD.md"
    before, mark, after = card.read_text("utf-8").partition("<!-- table -->\n")
    _, end, after = after.partition("<!-- end of table -->")
    card.write_text(before + mark + report.markdown(rows) + end + after, "utf-8")


if __name__ == "__main__":
    main()
