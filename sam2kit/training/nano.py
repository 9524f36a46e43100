"""The recipe of `nano`: this project's own small SAM 2, trained from scratch on procedural scenes.

    torchrun --nproc-per-node 2 -m sam2kit.training.nano --textures assets/textures --out runs/nano

What matters when nothing is pre-trained: small neck maps at the start, so that a click's position is not
drowned by features; queries and keys of the decoder that agree from the start; a class-balanced loss until
masks have found their objects; half-size pictures first, which are four times cheaper.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from sam2kit.config import preset
from sam2kit.media.pictures import read_picture
from sam2kit.model.attention import Attention
from sam2kit.model.hiera import block_plan
from sam2kit.model.sam2 import SAM2
from sam2kit.training.evaluate import evaluate_pictures, held_out_pictures
from sam2kit.training.interaction import InteractiveTraining, PromptPlan
from sam2kit.training.losses import LossWeights
from sam2kit.training.stream import SceneStream
from sam2kit.training.trainer import Trainer, TrainOptions
from sam2kit.weights import load_model, save_model

_START = LossWeights(focal=0.0, dice=1.0, balanced=1.0, iou=4.0, others=0.1, squared_iou=True, object_score=0.1)
_END = replace(_START, focal=8.0, balanced=0.2, others=0.03)
_LOSSES_CHANGE = (0.35, 0.55)  # progress at which the weights leave _START and reach _END
_FULL_SIDE_FROM = 0.72  # progress at which pictures grow to the model's side
_HALF_SIDE_BATCH, _FULL_SIDE_BATCH = (8, 5), (4, 5)  # pictures per process, objects per picture
_HALF_SIDE_WINDOWS = (8, 4, 8, 4)  # nano's own windows would reach over the border of half-size maps


def initialise(model: SAM2) -> None:
    """Change a fresh network so that prompts can be found in the picture from the first step."""
    with torch.no_grad():
        for conv in list(model.image_encoder.neck.convs)[:2]:  # strides 32 and 16, which are added up
            conv.conv.weight *= 0.2
            conv.conv.bias *= 0.2
        for name, module in model.sam_mask_decoder.transformer.named_modules():
            if isinstance(module, Attention) and "self_attn" not in name:
                module.q_proj.weight *= 1.5
                module.k_proj.weight.copy_(module.q_proj.weight)
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(3.0)


def set_windows(model: SAM2, window_per_stage: tuple[int, ...]) -> None:
    """Change the trunk's attention windows; no weight depends on them."""
    plan = block_plan(replace(model.config.trunk, window_per_stage=window_per_stage))
    for block, options in zip(model.image_encoder.trunk.blocks, plan, strict=True):
        block.window = options["window"]


def freeze_memory(model: SAM2) -> None:
    """Pictures teach nothing about memory; frozen parts cost no gradient."""
    for name, parameter in model.named_parameters():
        if not name.startswith(("image_encoder", "sam_", "no_mem_embed")):
            parameter.requires_grad_(False)


def corrections_at(progress: float, rng: np.random.Generator) -> int:
    """Corrective clicks of one step: none at first, up to four late."""
    most = min(4, int(progress * 8))
    return int(rng.integers(0, most + 1))


def loss_weights_at(progress: float) -> LossWeights:
    """From the gentle losses to sharp ones."""
    start, end = _LOSSES_CHANGE
    return _START.towards(_END, float(np.clip((progress - start) / (end - start), 0, 1)))


def train(
    folder: Path,
    options: TrainOptions,
    *,
    seed: int = 0,
    photos: list[np.ndarray] | None = None,
    weights: Path | None = None,
) -> SAM2:
    """Train nano on pictures; continues a run that was interrupted in the same folder.

    Leaves nano.safetensors, checkpoint.pt and log.jsonl (with the held-out scores at the end) in the folder.

    Args:
        weights: a nano file to start from; None starts from nothing.
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # without this, several processes on CPUs do not find each other
        mixed_precision="bf16",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    model = SAM2(preset("nano"))
    initialise(model)
    if weights is not None:
        model.load_state_dict(load_model(weights, "cpu").state_dict())
    freeze_memory(model)
    stream = SceneStream(seed, rank=accelerator.process_index, photos=photos or [])

    def loss_of_step(learner: nn.Module, step: int, progress: float) -> dict[str, Tensor]:
        shared = np.random.default_rng([seed, 4, step])  # the same on all processes: they wait for each other
        full = progress >= _FULL_SIDE_FROM
        pictures, objects = _FULL_SIDE_BATCH if full else _HALF_SIDE_BATCH
        side = model.config.side if full else model.config.side // 2
        set_windows(model, model.config.trunk.window_per_stage if full else _HALF_SIDE_WINDOWS)
        batch = stream.batch(step, side=side, pictures=pictures, objects=objects)
        plan = PromptPlan(
            click=0.5, box=0.42, mask=0.08, corrections=corrections_at(progress, shared), supervise_single=True
        )
        generator = torch.Generator().manual_seed(int(shared.integers(2**62)) + accelerator.process_index)
        return learner(batch.to(accelerator.device), plan, loss_weights_at(progress), generator)

    trainer = Trainer(
        InteractiveTraining(model, loss_stride=2),
        loss_of_step,
        options,
        folder,
        accelerator=accelerator,
        evaluate=lambda average: evaluate_pictures(average, held_out_pictures()),
    )
    trained = trainer.run()
    trained.memory_is_trained = False
    if accelerator.is_main_process:
        save_model(trained, folder / "nano.safetensors", dtype=torch.float16)
    return trained


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description="Train the nano model from scratch on procedural scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--textures", type=Path, help="folder of photos of surfaces to dress scenes with")
    parser.add_argument("--weights", type=Path, help="a nano file to start from, instead of from nothing")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # one process per core is faster than two threads in one process
    cv2.setNumThreads(1)
    photos = [read_picture(p) for p in sorted(arguments.textures.glob("*.jpg"))] if arguments.textures else []
    options = TrainOptions(minutes=arguments.minutes)
    train(arguments.out, options, seed=arguments.seed, photos=photos, weights=arguments.weights)


if __name__ == "__main__":
    main()
