"""The recipe of `nano`: this project's own small SAM 2, trained from scratch on pictures and clips.

    torchrun --nproc-per-node 2 -m sam2kit.nano.recipe --photos photos --turntables turntables --out runs/nano

goes on from the checkpoint in the folder, if there is one, else from the shipped weights, or with --from-nothing from
none. Steps on clips stand between steps on pictures, so that neither is forgotten. The folders are those that
real_pixels.py describes; without them everything is painted.

What matters when nothing is pre-trained: small neck maps at the start, so that a click's position is not
drowned by features; queries and keys of the decoder that agree from the start; a class-balanced loss until
masks have found their objects; small pictures first, which are several times cheaper.
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
from sam2kit.hardware import THREADS
from sam2kit.model.attention import Attention
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import SAM2
from sam2kit.nano.held_out import held_out_pictures
from sam2kit.nano.measure import picture_figures
from sam2kit.nano.real_pixels import RealPixels
from sam2kit.nano.streams import ClipStream, PictureStream
from sam2kit.processes import join_processes
from sam2kit.training.callbacks import ProgressBar
from sam2kit.training.interaction import SupervisionOptions, clip_losses
from sam2kit.training.losses import LossWeights
from sam2kit.training.sampling import PromptPlan, TrainingClip
from sam2kit.training.trainer import MIXED_PRECISION, Backward, LoopOptions, Trainer, dtype_for_all
from sam2kit.weights import load_model, save_model

_START = LossWeights(
    focal=0.0, dice=1.0, balanced=1.0, iou=4.0, iou_differences=1.0, others=0.1, squared_iou=True, object_score=0.1
)
# squared errors of IoUs are small numbers: with less weight, training photographs too get the wrong candidate
_END = replace(_START, focal=8.0, balanced=0.2, iou=8.0, iou_differences=8.0, others=0.03)
_CLIP_OBJECT_SCORE = 2.0  # weight of the loss on clips, where objects do disappear
_LOSSES_CHANGE = (0.35, 0.55)  # progress at which the weights leave _START and reach _END
_TRAINED_STARTS_AT = 0.55  # progress at which a model that is already trained enters: sharp losses, corrections
_EXACT_PROMPTS = 0.25  # share of the steps on pictures with clicks in the middle and tight boxes
_CORRECTED = 0.6  # share of the steps on pictures in which there may be corrections
_FINE_EDGES_FROM = 0.85  # progress
_FADES = 0.4  # share of the steps on clips, in time, after which memories are no longer made from true masks


@dataclass(frozen=True)
class Phase:
    """What steps look like until some progress; sides are shares of the model's own."""

    until: float
    clips: float  # share of the steps
    picture_sides: tuple[tuple[float, float], ...]  # (share of the side, chance)
    clip_sides: tuple[tuple[float, float], ...]


_PHASES = (
    Phase(0.45, 0.0, ((0.5, 1.0),), ()),
    Phase(0.75, 0.2, ((0.5, 0.4), (2 / 3, 0.6)), ((0.5, 1.0),)),
    Phase(1.0, 0.35, ((2 / 3, 0.5), (1.0, 0.5)), ((0.5, 0.4), (2 / 3, 0.5), (1.0, 0.1))),
)
# per process, by the share of the side: pictures, objects in each; and clips, frames, objects in each
# twice as many objects cost a quarter more
_PICTURES_AT = {0.5: (6, 7), 2 / 3: (4, 8), 1.0: (2, 8)}
_CLIPS_AT = {0.5: (2, 8, 3), 2 / 3: (1, 9, 3), 1.0: (1, 7, 2)}
_PICTURES = SupervisionOptions(single_too=True, true_presence=True)

Batch = tuple[TrainingClip, list[PromptPlan], SupervisionOptions]  # one step of this process
NextBatch = Callable[[int, float, Generator], Batch]  # step, progress, what all processes draw alike


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


def loss_weights_at(progress: float) -> LossWeights:
    """From the gentle losses to sharp ones."""
    start, end = _LOSSES_CHANGE
    return _START.towards(_END, float(np.clip((progress - start) / (end - start), 0, 1)))


@dataclass(frozen=True)
class Run:
    """Where a run leaves its results, and what it starts from."""

    folder: Path  # gets nano.safetensors, checkpoint.pt and log.jsonl; a checkpoint found there is continued
    options: LoopOptions
    seed: int = 0
    real: RealPixels | None = None
    weights: Path | str | None = "nano"  # a model to start from; None starts from nothing


def train(run: Run) -> SAM2:
    """Train nano; a model that is already trained skips the gentle first half."""
    accelerator, model = _prepare(run)
    rank = accelerator.process_index
    streams = PictureStream(run.seed, rank=rank, real=run.real), ClipStream(run.seed, rank=rank, real=run.real)

    def next_batch(step: int, progress: float, shared: Generator) -> Batch:
        if run.weights is not None:
            progress = _TRAINED_STARTS_AT + (1 - _TRAINED_STARTS_AT) * progress
        phase = next(p for p in _PHASES if progress <= p.until)
        if shared.random() < phase.clips:
            return _clip_batch(streams[1], model.config.side, phase, step, progress, shared)
        return _picture_batch(streams[0], model.config.side, phase, step, progress, shared)

    return _train(run, accelerator, model, next_batch)


def _drawn_side(sides: tuple[tuple[float, float], ...], rng: Generator) -> float:
    shares, chances = zip(*sides, strict=True)
    return shares[int(rng.choice(len(shares), p=chances))]


def _pixels(share: float, side: int) -> int:
    """The nearest side that the model can work at."""
    return 32 * round(share * side / 32)


def _picture_batch(
    stream: PictureStream, side: int, phase: Phase, step: int, progress: float, shared: Generator
) -> Batch:
    share = _drawn_side(phase.picture_sides, shared)
    pictures, objects = _PICTURES_AT[share]
    clip = stream.batch(step, side=_pixels(share, side), pictures=pictures, objects=objects)
    plans = picture_plans(progress, pictures * objects, shared)
    exact = bool(shared.random() < _EXACT_PROMPTS)
    options = replace(_PICTURES, weights=loss_weights_at(progress), centre_clicks=exact)
    return clip, plans, replace(options, loss_stride=_loss_stride(progress))


def _clip_batch(stream: ClipStream, side: int, phase: Phase, step: int, progress: float, shared: Generator) -> Batch:
    share = _drawn_side(phase.clip_sides, shared)
    clips, frames, objects = _CLIPS_AT[share]
    clip = stream.batch(step, side=_pixels(share, side), clips=clips, frames=frames, objects=objects)
    plans = [tracking_plan(frames, shared)] * (clips * objects)
    first = _PHASES[0].until  # where clips begin
    options = tracking_options((progress - first) / (1 - first), frames, shared)
    return clip, plans, replace(options, loss_stride=_loss_stride(progress))


def _loss_stride(progress: float) -> int:
    """Masks are compared at the decoder's own size, which costs a sixth less, until fine edges are left to learn."""
    return 4 if progress < _FINE_EDGES_FROM else 2


def picture_plans(progress: float, objects: int, rng: Generator) -> list[PromptPlan]:
    """How the objects of one picture step are prompted; all get as many corrections: none at first, up to four late.

    Many get none all the time: the first answer is the hardest, and each correction costs as much as it.
    """
    corrections = int(rng.integers(0, min(4, int(progress * 8)) + 1) * (rng.random() < _CORRECTED))
    kinds = rng.choice(["click", "box", "corrupted mask"], objects, p=[0.5, 0.42, 0.08]).tolist()
    return [PromptPlan(((0, kind),), ((0, corrections),)) for kind in kinds]


def tracking_plan(frames: int, rng: Generator) -> PromptPlan:
    """How the objects of one clip step are prompted: the first frame, and one click on a later one now and then."""
    kind = str(rng.choice(["mask", "click", "box"], p=[0.4, 0.35, 0.25]))
    first = int(rng.choice([0, 0, 0, 1, 2]))
    later = ((int(rng.integers(1, frames)), 1),) if rng.random() < 0.25 else ()
    return PromptPlan(((0, kind),), ((0, first), *later))


def tracking_options(progress: float, frames: int, rng: Generator) -> SupervisionOptions:
    """True masks in memories fade out; a clip pretends to be part of a longer one."""
    return replace(
        _PICTURES,
        weights=replace(_END, object_score=_CLIP_OBJECT_SCORE),
        single_too=False,
        hard_memories=True,
        truth_in_memory=float(np.clip(0.95 - 0.9 * progress / _FADES, 0.05, 0.95)),
        pointer_frames=int(rng.integers(frames, POINTER_FRAMES + 1)),
    )


def _prepare(run: Run) -> tuple[Accelerator, SAM2]:
    torch.manual_seed(run.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype_for_all("auto", device) if device.type == "cuda" else torch.bfloat16
    accelerator = join_processes(device, mixed_precision=MIXED_PRECISION[dtype])
    if run.weights is None:
        model = SAM2(preset("nano"))
        initialise(model)
    else:
        model = load_model(run.weights, "cpu", trainable=True)
    model.compute_dtype = None  # the loop's autocast decides
    return accelerator, model


def _train(run: Run, accelerator: Accelerator, model: SAM2, next_batch: NextBatch) -> SAM2:
    """Run the loop and save the result."""

    def training_step(step: int, progress: float, backward: Backward) -> dict[str, float]:
        shared = np.random.default_rng([run.seed, 4, step])  # the same on all processes: they wait for each other
        clip, plans, options = next_batch(step, progress, shared)
        generator = torch.Generator().manual_seed(int(shared.integers(2**62)) + accelerator.process_index)
        losses = clip_losses(model, clip.to(accelerator.device), plans, options, generator)
        loss = losses.total / len(plans)
        backward(loss)
        return {"loss": loss.item(), **losses.means()}

    bar = ProgressBar()
    trainer = Trainer(model, training_step, run.options, run.folder, accelerator, callbacks=[bar])
    trainer.run()
    bar.close()
    trained = trainer.kept
    assert isinstance(trained, SAM2), "it is the model or an average of it"
    if accelerator.is_main_process:
        trainer.log(picture_figures(trained, held_out_pictures()))
        trained.memory_is_trained = True
        save_model(trained, run.folder / "nano.safetensors", dtype=torch.float16)
    accelerator.wait_for_everyone()
    return trained


def main() -> None:
    """Train from the command line."""
    parser = _parser()
    arguments = parser.parse_args()
    if (arguments.photos is None) != (arguments.turntables is None):
        parser.error("--photos and --turntables belong together")
    THREADS.fix(1)  # one process per core is faster than two threads in one process
    cv2.setNumThreads(1)
    torch.set_flush_denormal(True)
    real = RealPixels(arguments.photos, arguments.turntables) if arguments.photos else None
    options = LoopOptions(minutes=arguments.minutes, learning_rate=arguments.rate, average=0.999, log_every=100)
    weights = None if arguments.from_nothing else arguments.weights
    train(Run(arguments.out, options, arguments.seed, real, weights))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the nano model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--minutes", type=float, default=120.0, help="of all sittings that share a checkpoint")
    parser.add_argument("--photos", type=Path, help="folder of sets of photographs with masks")
    parser.add_argument("--turntables", type=Path, help="folder of rotating objects")
    parser.add_argument("--weights", default="nano", help="what to start from, where there is no checkpoint")
    parser.add_argument("--from-nothing", action="store_true", help="start from random weights")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
