"""The recipe of `nano`: this project's own small SAM 2, trained from scratch on procedural scenes.

First pictures, then clips (with some pictures between them, so that nothing is forgotten):

    torchrun --nproc-per-node 2 -m sam2kit.training.nano pictures --textures assets/textures --out runs/pictures
    torchrun --nproc-per-node 2 -m sam2kit.training.nano clips --textures assets/textures --out runs/clips \
        --weights runs/pictures/nano.safetensors

What matters when nothing is pre-trained: small neck maps at the start, so that a click's position is not
drowned by features; queries and keys of the decoder that agree from the start; a class-balanced loss until
masks have found their objects; half-size pictures first, which are four times cheaper.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
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
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import SAM2
from sam2kit.training.clip_stream import ClipStream
from sam2kit.training.evaluate import evaluate_pictures, held_out_pictures
from sam2kit.training.interaction import InteractiveTraining, PictureBatch, PromptPlan
from sam2kit.training.losses import LossWeights
from sam2kit.training.stream import SceneStream
from sam2kit.training.tracking import ClipBatch, TrackingPlan, TrackingTraining
from sam2kit.training.trainer import LossOfStep, Trainer, TrainOptions
from sam2kit.weights import load_model, save_model

_START = LossWeights(focal=0.0, dice=1.0, balanced=1.0, iou=4.0, others=0.1, squared_iou=True, object_score=0.1)
_END = replace(_START, focal=8.0, balanced=0.2, others=0.03)
_LOSSES_CHANGE = (0.35, 0.55)  # progress at which the weights leave _START and reach _END
_TRAINED_STARTS_AT = 0.55  # progress at which a model that is already trained enters: sharp losses, corrections
_FULL_SIDE_FROM = 0.72  # progress at which pictures grow to the model's side
_HALF_SIDE_BATCH, _FULL_SIDE_BATCH = (8, 5), (4, 5)  # pictures per process, objects per picture
_CLIPS_FULL_SIDE_FROM = 0.6
_HALF_SIDE_CLIPS, _FULL_SIDE_CLIPS = (3, 7, 3), (1, 7, 3)  # clips per process, frames, objects per clip
_PICTURE_STEPS = 0.25  # share of the steps of the clip lessons
_TRUTH_FADES_UNTIL = 0.4  # progress at which memories are no longer made from true masks
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


@dataclass(frozen=True)
class Run:
    """Where a run leaves its results, and what it starts from."""

    folder: Path  # gets nano.safetensors, checkpoint.pt and log.jsonl; a checkpoint found there is continued
    options: TrainOptions
    seed: int = 0
    photos: tuple[np.ndarray, ...] = ()  # pictures of real surfaces
    weights: Path | None = None  # a nano file to start from; None starts from nothing


def train_pictures(run: Run) -> SAM2:
    """Teach nano single pictures; a model that is already trained skips the gentle first half of the lessons."""
    accelerator, model = _prepare(run)
    freeze_memory(model)
    stream = SceneStream(run.seed, rank=accelerator.process_index, photos=run.photos)

    def loss_of_step(learner: nn.Module, step: int, progress: float) -> dict[str, Tensor]:
        shared = np.random.default_rng([run.seed, 4, step])  # the same on all processes: they wait for each other
        if run.weights is not None:
            progress = _TRAINED_STARTS_AT + (1 - _TRAINED_STARTS_AT) * progress
        side, full = _side(model, progress >= _FULL_SIDE_FROM)
        pictures, objects = _FULL_SIDE_BATCH if full else _HALF_SIDE_BATCH
        batch = stream.batch(step, side=side, pictures=pictures, objects=objects)
        generator = torch.Generator().manual_seed(int(shared.integers(2**62)) + accelerator.process_index)
        plan = picture_plan(progress, shared)
        return learner(batch.to(accelerator.device), plan, loss_weights_at(progress), generator)

    return _learn(run, accelerator, InteractiveTraining(model, loss_stride=2), loss_of_step, tracks=False)


def train_clips(run: Run) -> SAM2:
    """Teach nano to track, with a picture lesson now and then."""
    accelerator, model = _prepare(run)
    rank = accelerator.process_index
    scenes = SceneStream(run.seed, rank=rank, photos=run.photos)
    clips = ClipStream(run.seed, rank=rank, photos=run.photos)

    def loss_of_step(learner: nn.Module, step: int, progress: float) -> dict[str, Tensor]:
        shared = np.random.default_rng([run.seed, 7, step])
        side, full = _side(model, progress >= _CLIPS_FULL_SIDE_FROM)
        generator = torch.Generator().manual_seed(int(shared.integers(2**62)) + rank)
        if shared.random() < _PICTURE_STEPS:
            pictures, objects = _FULL_SIDE_BATCH if full else _HALF_SIDE_BATCH
            batch = scenes.batch(step, side=side, pictures=pictures, objects=objects)
            plan, weights = picture_plan(1.0, shared), _END
        else:
            number, frames, objects = _FULL_SIDE_CLIPS if full else _HALF_SIDE_CLIPS
            batch = clips.batch(step, side=side, clips=number, frames=frames, objects=objects)
            plan, weights = tracking_plan(progress, frames, shared), replace(_END, object_score=0.5)
        return learner(batch.to(accelerator.device), plan, weights, generator)

    return _learn(run, accelerator, Lessons(model), loss_of_step, tracks=True)


class Lessons(nn.Module):
    """Pictures and clips for one model, in one module, so that distributed training can wrap it."""

    def __init__(self, model: SAM2) -> None:
        super().__init__()
        self.model = model
        self.pictures = InteractiveTraining(model, loss_stride=2)
        self.clips = TrackingTraining(model)

    def forward(
        self,
        batch: PictureBatch | ClipBatch,
        plan: PromptPlan | TrackingPlan,
        weights: LossWeights,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """One step of whichever lesson the batch belongs to."""
        lesson = self.clips if isinstance(batch, ClipBatch) else self.pictures
        return lesson(batch, plan, weights, generator)


def picture_plan(progress: float, rng: np.random.Generator) -> PromptPlan:
    """How objects of one picture step are prompted."""
    corrections = corrections_at(progress, rng)
    return PromptPlan(click=0.5, box=0.42, mask=0.08, corrections=corrections, supervise_single=True)


def tracking_plan(progress: float, frames: int, rng: np.random.Generator) -> TrackingPlan:
    """How objects of one clip step are prompted; true masks in memories fade out."""
    return TrackingPlan(
        kind=str(rng.choice(["mask", "click", "box"], p=[0.4, 0.35, 0.25])),
        first_corrections=int(rng.choice([0, 0, 0, 1, 2])),
        corrected_frame=int(rng.integers(1, frames)) if rng.random() < 0.25 else None,
        truth_in_memory=float(np.clip(0.95 - 0.9 * progress / _TRUTH_FADES_UNTIL, 0.05, 0.95)),
        pointer_frames=int(rng.integers(frames, POINTER_FRAMES + 1)),
    )


def _prepare(run: Run) -> tuple[Accelerator, SAM2]:
    torch.manual_seed(run.seed)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # without this, several processes on CPUs do not find each other
        mixed_precision="bf16",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    model = SAM2(preset("nano"))
    initialise(model)
    if run.weights is not None:
        model.load_state_dict(load_model(run.weights, "cpu").state_dict())
    model.compute_dtype = None  # the loop's autocast decides
    return accelerator, model


def _side(model: SAM2, full: bool) -> tuple[int, bool]:
    """The pictures' side in this step, with the trunk's windows set for it."""
    set_windows(model, model.config.trunk.window_per_stage if full else _HALF_SIDE_WINDOWS)
    return (model.config.side if full else model.config.side // 2), full


def _learn(run: Run, accelerator: Accelerator, learner: nn.Module, loss_of_step: LossOfStep, *, tracks: bool) -> SAM2:
    """Run the loop and keep what was learned."""
    trained = Trainer(
        learner,
        loss_of_step,
        run.options,
        run.folder,
        accelerator=accelerator,
        evaluate=lambda average: evaluate_pictures(average, held_out_pictures()),
    ).run()
    trained.memory_is_trained = tracks
    set_windows(trained, trained.config.trunk.window_per_stage)
    if accelerator.is_main_process:
        save_model(trained, run.folder / "nano.safetensors", dtype=torch.float16)
    return trained


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description="Train the nano model on procedural scenes.")
    parser.add_argument("lesson", choices=["pictures", "clips"], help="clips need --weights that know pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--textures", type=Path, help="folder of photos of surfaces to dress scenes with")
    parser.add_argument("--weights", type=Path, help="a nano file to start from, instead of from nothing")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # one process per core is faster than two threads in one process
    cv2.setNumThreads(1)
    photos = [read_picture(p) for p in sorted(arguments.textures.glob("*.jpg"))] if arguments.textures else []
    clips = arguments.lesson == "clips"
    if clips and arguments.weights is None:
        parser.error("clips need --weights that know pictures; train pictures first")
    options = TrainOptions(
        minutes=arguments.minutes,
        learning_rate=arguments.rate,
        slower=(("image_encoder", 0.5),) if clips else (),
    )
    run = Run(arguments.out, options, arguments.seed, tuple(photos), arguments.weights)
    (train_clips if clips else train_pictures)(run)


if __name__ == "__main__":
    main()
