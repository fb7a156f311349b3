"""Child process that trains compat's models with the loops of other packages: `python loops.py FOLDER`.

Every function trains a tiny model, saves it as the package does, loads it again, and checks that it is the same model.
The child prints the names of the functions that ended.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

import cjkclip
import cjkclip.compat.transformers as compat
from support import peers
from support.compat_pairs import EOS, TEXT, VISION, furthest, ids, pixels

PAIRS = [{"input_ids": text, "pixel_values": image} for text, image in zip(ids(4), pixels(4), strict=True)] * 2
TARGETS = {"clip": ["q_proj", "v_proj"], "chinese": ["query", "value"]}


def built(kind: str = "clip") -> Any:
    """Return a tiny model of one of TARGETS: always the same one, in evaluation mode."""
    torch.manual_seed(0)
    if kind == "chinese":
        return compat.ChineseCLIPModel(compat.ChineseCLIPConfig(text_config=TEXT, vision_config=VISION)).eval()
    text = TEXT | {"eos_token_id": EOS}
    return compat.CLIPModel(compat.CLIPConfig(text_config=text, vision_config=VISION)).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids(4), pixel_values=pixels(4)).logits_per_image


def require_same(one: Any, other: Any) -> None:
    """Check that all parameters are equal."""
    got, want = one.state_dict(), other.state_dict()
    assert list(got) == list(want)
    assert all(torch.equal(got[name], want[name]) for name in want)


def require_loads(folder: Path, file: Path, model: Any) -> None:
    """Check that a training program's file is the model, for compat and for cjkclip, beside the model's config.json."""
    model.config.save_pretrained(folder)
    require_same(type(model).from_pretrained(file), model)
    towers: Any = cjkclip.load(file, engine="torch").engine
    assert furthest(towers.towers.vision(pixels(2)), model.eval().get_image_features(pixels(2)) + 0) <= 1e-5
    assert furthest(logits(model), logits(built())) > 1e-3  # it was trained


def trainer(folder: Path) -> None:
    """transformers.Trainer, which writes config.json only for its own classes: a callback adds it."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class WithConfig(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, *, model: Any, **more: Any) -> None:
            model.config.save_pretrained(Path(args.output_dir, f"checkpoint-{state.global_step}"))

    def collate(rows: list[Any]) -> dict[str, Any]:
        return default_collate(rows) | {"return_loss": True}

    def start() -> Trainer:
        options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
        options |= {"per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "disable_tqdm": True}
        args = TrainingArguments(output_dir=str(folder), **options)
        return Trainer(built(), args, collate, PAIRS, PAIRS, callbacks=[WithConfig()])  # pyright: ignore

    first = start()
    first.train()
    require_same(compat.CLIPModel.from_pretrained(folder / "checkpoint-4"), first.model)
    require_loads(folder / "checkpoint-4", folder / "checkpoint-4", first.model)
    second = start()
    second.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    require_same(second.model, first.model)
    assert first.evaluate()["eval_loss"] < 10


def accelerate(folder: Path) -> None:
    """accelerate: prepare, backward, save_state, save_model and save_pretrained, in bfloat16."""
    from accelerate import Accelerator, init_empty_weights, load_checkpoint_and_dispatch

    loop, plain = Accelerator(cpu=True, mixed_precision="bf16"), built().train()
    model, optimiser, batches = loop.prepare(
        plain,
        torch.optim.AdamW(plain.parameters(), 1e-2),
        DataLoader(PAIRS, 4),  # pyright: ignore[reportArgumentType]
    )
    for batch in batches:
        output = model(**batch, return_loss=True)
        assert type(output) is compat.CLIPOutput
        loop.backward(output.loss)
        optimiser.step()
        optimiser.zero_grad()
    trained = loop.unwrap_model(model)
    loop.save_state(str(folder / "state"))
    before = built()
    before.load_state_dict(trained.state_dict())
    with torch.no_grad():
        trained.logit_scale.add_(1)
    loop.load_state(str(folder / "state"))
    require_same(trained, before)
    loop.save_model(model, str(folder / "model"))
    require_loads(folder / "model", folder / "model", before)
    saved = {"is_main_process": loop.is_main_process, "save_function": loop.save}
    trained.save_pretrained(folder / "own", **saved, state_dict=loop.get_state_dict(model))
    require_same(compat.CLIPModel.from_pretrained(folder / "own"), before)
    with init_empty_weights():
        empty = compat.CLIPModel(before.config)
    load_checkpoint_and_dispatch(empty, str(folder / "model"), device_map={"": "cpu"})
    require_same(empty, before)


def lightning(folder: Path) -> None:
    """Lightning: a module that holds the model, with the summary that hooks it, and its .ckpt."""
    import pytorch_lightning as lightning

    class Lit(lightning.LightningModule):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Any:
            return self.model(**batch, return_loss=True).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-2)

    options = {"max_steps": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    loop, model = lightning.Trainer(**options, default_root_dir=str(folder)), built()
    loop.fit(Lit(model), DataLoader(PAIRS, 4))  # pyright: ignore[reportArgumentType]
    loop.save_checkpoint(folder / "last.ckpt", weights_only=False)
    require_same(Lit.load_from_checkpoint(folder / "last.ckpt", model=built(), weights_only=False).model, model)
    require_loads(folder, folder / "last.ckpt", model)


def peft(folder: Path) -> None:
    """peft: LoRA on published names; the adapter fits compat's and transformers' models; merged weights are a model."""
    from peft import LoraConfig, PeftModel, get_peft_model

    for kind, targets in TARGETS.items():
        base = built(kind)
        model: Any = get_peft_model(built(kind), LoraConfig(r=4, target_modules=targets))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, 1e-2)
        for _ in range(3):
            model(input_ids=ids(4), pixel_values=pixels(4), return_loss=True).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        want = logits(model)
        assert furthest(want, logits(base)) > 1e-2
        model.save_pretrained(folder / kind)
        base.save_pretrained(folder / f"{kind}-base")
        peer = getattr(peers.transformers(), type(base).__name__).from_pretrained(folder / f"{kind}-base")
        for other in (built(kind), peer):
            assert furthest(logits(PeftModel.from_pretrained(other, folder / kind)), want) <= 1e-5
        merged = model.merge_and_unload()
        assert list(merged.state_dict()) == list(base.state_dict())
        merged.save_pretrained(folder / f"{kind}-merged")
        assert furthest(logits(type(base).from_pretrained(folder / f"{kind}-merged")), want) <= 1e-5
        cjkclip.load(folder / f"{kind}-merged")


if __name__ == "__main__":
    peers.transformers()  # before another package imports it
    for loop in (accelerate, trainer, lightning, peft):
        loop(Path(sys.argv[1], loop.__name__))
        print(loop.__name__, flush=True)
