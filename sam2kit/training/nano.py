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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from numpy.random import Generator

from sam2kit.config import preset
from sam2kit.evaluation.pictures import evaluate_pictures
from sam2kit.evaluation.processes import join_processes
from sam2kit.media.pictures import read_picture
from sam2kit.model.attention import Attention
from sam2kit.model.hiera import block_plan
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import SAM2
from sam2kit.threads import THREADS
from sam2kit.training.clip_stream import ClipStream
from sam2kit.training.held_out import held_out_pictures
from sam2kit.training.losses import LossWeights
from sam2kit.training.parameters import everything_alike, slower
from sam2kit.training.preparation import MIXED_PRECISION, dtype_for_all
from sam2kit.training.session import Lesson, Rules, SessionTraining, play_lesson
from sam2kit.training.simulated_user import SessionPlan
from sam2kit.training.stream import SceneStream
from sam2kit.training.trainer import Backward, Trainer, TrainOptions
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
_PICTURES = Rules(loss_stride=2, single_too=True, true_presence=True)

Played = tuple[Lesson, list[SessionPlan], Rules, LossWeights]  # one step of this process


def initialise(model: SAM2) -> None:
    """Change a fresh network so that prompts can be found in the picture from the first step."""
    with torch.no_grad():
        for lateral in list(model.image_encoder.neck.convs)[:2]:  # strides 32 and 16, which are added up
            for parameter in lateral.parameters():
                parameter.mul_(0.2)
        for name, module in model.sam_mask_decoder.transformer.named_modules():
            if isinstance(module, Attention) and "self_attn" not in name:
                module.q_proj.weight *= 1.5
                module.k_proj.weight.copy_(module.q_proj.weight)
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].get_parameter("bias").fill_(3.0)


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


def corrections_at(progress: float, rng: Generator) -> int:
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

    def next_lesson(step: int, progress: float, shared: Generator) -> Played:
        if run.weights is not None:
            progress = _TRAINED_STARTS_AT + (1 - _TRAINED_STARTS_AT) * progress
        side, full = _side(model, progress >= _FULL_SIDE_FROM)
        pictures, objects = _FULL_SIDE_BATCH if full else _HALF_SIDE_BATCH
        lesson = stream.batch(step, side=side, pictures=pictures, objects=objects)
        return lesson, picture_plans(progress, pictures * objects, shared), _PICTURES, loss_weights_at(progress)

    return _learn(run, accelerator, model, next_lesson, tracks=False)


def train_clips(run: Run) -> SAM2:
    """Teach nano to track, with a picture lesson now and then."""
    accelerator, model = _prepare(run)
    rank = accelerator.process_index
    scenes = SceneStream(run.seed, rank=rank, photos=run.photos)
    clips = ClipStream(run.seed, rank=rank, photos=run.photos)

    def next_lesson(step: int, progress: float, shared: Generator) -> Played:
        side, full = _side(model, progress >= _CLIPS_FULL_SIDE_FROM)
        if shared.random() < _PICTURE_STEPS:
            pictures, objects = _FULL_SIDE_BATCH if full else _HALF_SIDE_BATCH
            lesson = scenes.batch(step, side=side, pictures=pictures, objects=objects)
            return lesson, picture_plans(1.0, pictures * objects, shared), _PICTURES, _END
        number, frames, objects = _FULL_SIDE_CLIPS if full else _HALF_SIDE_CLIPS
        lesson = clips.batch(step, side=side, clips=number, frames=frames, objects=objects)
        plans = [tracking_plan(frames, shared)] * (number * objects)
        return lesson, plans, tracking_rules(progress, frames, shared), replace(_END, object_score=0.5)

    return _learn(run, accelerator, model, next_lesson, tracks=True)


def picture_plans(progress: float, objects: int, rng: Generator) -> list[SessionPlan]:
    """How the objects of one picture step are prompted; all get the same number of corrections."""
    corrections = corrections_at(progress, rng)
    kinds = rng.choice(["click", "box", "hint"], objects, p=[0.5, 0.42, 0.08]).tolist()
    return [SessionPlan(((0, kind),), ((0, corrections),)) for kind in kinds]


def tracking_plan(frames: int, rng: Generator) -> SessionPlan:
    """How the objects of one clip step are prompted: the first frame, and one click on a later one now and then."""
    kind = str(rng.choice(["mask", "click", "box"], p=[0.4, 0.35, 0.25]))
    first = int(rng.choice([0, 0, 0, 1, 2]))
    later = ((int(rng.integers(1, frames)), 1),) if rng.random() < 0.25 else ()
    return SessionPlan(((0, kind),), ((0, first), *later))


def tracking_rules(progress: float, frames: int, rng: Generator) -> Rules:
    """True masks in memories fade out; a clip pretends to be part of a longer one."""
    return replace(
        _PICTURES,
        single_too=False,
        hard_memories=True,
        truth_in_memory=float(np.clip(0.95 - 0.9 * progress / _TRUTH_FADES_UNTIL, 0.05, 0.95)),
        pointer_frames=int(rng.integers(frames, POINTER_FRAMES + 1)),
    )


def _prepare(run: Run) -> tuple[Accelerator, SAM2]:
    torch.manual_seed(run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype_for_all("auto", device) if device.type == "cuda" else torch.bfloat16
    accelerator = join_processes(device, mixed_precision=MIXED_PRECISION[dtype])
    model = SAM2(preset("nano"))
    initialise(model)
    if run.weights is not None:
        model.load_state_dict(load_model(run.weights, "cpu", trainable=True).state_dict())
    model.compute_dtype = None  # the loop's autocast decides
    return accelerator, model


def _side(model: SAM2, full: bool) -> tuple[int, bool]:
    """The pictures' side in this step, with the trunk's windows set for it."""
    set_windows(model, model.config.trunk.window_per_stage if full else _HALF_SIDE_WINDOWS)
    return (model.config.side if full else model.config.side // 2), full


def _learn(
    run: Run,
    accelerator: Accelerator,
    model: SAM2,
    next_lesson: Callable[[int, float, Generator], Played],
    *,
    tracks: bool,
) -> SAM2:
    """Run the loop and keep what was learned."""
    training = SessionTraining(model)

    def play(step: int, progress: float, backward: Backward) -> dict[str, float]:
        shared = np.random.default_rng([run.seed, 4, step])  # the same on all processes: they wait for each other
        lesson, plans, rules, weights = next_lesson(step, progress, shared)
        generator = torch.Generator().manual_seed(int(shared.integers(2**62)) + accelerator.process_index)
        done = play_lesson(training, lesson.to(accelerator.device), plans, rules, weights, generator)
        loss = done.total / len(plans)
        backward(loss)
        return {"loss": loss.item(), **done.means()}

    trained = Trainer(
        model,
        play,
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
    parser = _parser()
    arguments = parser.parse_args()
    THREADS.fix(1)  # one process per core is faster than two threads in one process
    cv2.setNumThreads(1)
    photos = [read_picture(p) for p in sorted(arguments.textures.glob("*.jpg"))] if arguments.textures else []
    clips = arguments.lesson == "clips"
    if clips and arguments.weights is None:
        parser.error("clips need --weights that know pictures; train pictures first")
    options = TrainOptions(
        minutes=arguments.minutes,
        learning_rate=arguments.rate,
        share_of=slower("image_encoder.", 0.5) if clips else everything_alike,
    )
    run = Run(arguments.out, options, arguments.seed, tuple(photos), arguments.weights)
    (train_clips if clips else train_pictures)(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the nano model on procedural scenes.")
    parser.add_argument("lesson", choices=["pictures", "clips"], help="clips need --weights that know pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--textures", type=Path, help="folder of photos of surfaces to dress scenes with")
    parser.add_argument("--weights", type=Path, help="a nano file to start from, instead of from nothing")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
