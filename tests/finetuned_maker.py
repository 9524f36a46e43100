"""Fine-tunings without any training: a few tensors of the decoder are moved, so that masks come out otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sam2kit.finetuned import FineTuning, save_finetuned, this_environment
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model, save_model

MOVED = ("sam_mask_decoder.output_hypernetworks_mlps.", "sam_mask_decoder.iou_token.")
ABOUT = {
    "recipe": {"name": "decoder", "rate": 1e-4},
    "data": {"format": "coco", "name": "leaves", "learnt": 40, "held_out": 10},
    "metrics": {"before": {"click1": 0.4, "objects": 12}, "after": {"click1": 0.71, "objects": 12}},
    "environment": this_environment("cpu"),
    "seed": 3,
}


def moved(model: SAM2) -> SAM2:
    """The model after what stands for training."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(MOVED):
                weight += 0.2 * torch.randn(weight.shape, generator=random)
    return model


def finetuned_nano(folder: Path) -> Path:
    """A fine-tuning of nano."""
    base = load_model("nano", "cpu").state_dict()
    return save_finetuned(folder, moved(load_model("nano", "cpu")), base, FineTuning("nano", **ABOUT))


def finetuned_toy(folder: Path, toy: SAM2) -> tuple[Path, SAM2]:
    """The toy beside a fine-tuning of it, which knows it by a relative path; and the trained model."""
    base = load_model(save_model(toy, folder / "base" / "toy.safetensors"), "cpu")
    trained = moved(load_model(folder / "base" / "toy.safetensors", "cpu"))
    return save_finetuned(folder / "tuned", trained, base.state_dict(), FineTuning("../base/toy.safetensors")), trained


def edit_json(folder: Path, **changes: object) -> None:
    """Change entries of a fine-tuning's JSON."""
    path = folder / "finetuned.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
