"""The training loop: any module that turns a step number into losses, until steps or minutes run out.

Knows nothing of pictures or prompts. Hugging Face accelerate places it on one process or many, on CPU or GPU;
a checkpoint makes an interrupted run go on where it was; an averaged copy of the weights is what gets used.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

LossOfStep = Callable[[nn.Module, int, float], dict[str, Tensor]]  # learner, step, progress -> "loss" and figures
Evaluation = Callable[[nn.Module], dict[str, float]]  # averaged model -> numbers


@dataclass(frozen=True)
class TrainOptions:
    """How long and how fast to learn. Give `steps` or `minutes`."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    final_share: float = 0.02  # of the learning rate, at the end of the cosine
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05  # not on biases, norms and embeddings
    slower: tuple[tuple[str, float], ...] = ()  # (start of a parameter's name in the model, its share of the rate)
    clip: float = 1.0  # global L2 norm of the gradient
    average: float = 0.998  # decay of the averaged weights
    save_every: int = 500  # steps
    evaluate_every: int = 0  # steps; 0 evaluates at the end only

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes: how long should the training last?")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0..1."""
        share = step / self.steps if self.steps is not None else seconds / (60 * self.minutes)
        return min(share, 1.0)

    def rate(self, step: int, progress: float) -> float:
        """Learning rate: linear warm-up, then a cosine down to `final_share`."""
        cosine = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup_steps, 1)) * cosine


class Trainer:
    """Runs the loop.

    Args:
        learner: module with the network as `.model`; its parameters with requires_grad are trained.
        loss_of_step: computes the losses of one step on this process.
        folder: checkpoint.pt and log.jsonl live here; a checkpoint found there is continued.
        evaluate: measures the averaged model; called on the main process.
    """

    def __init__(
        self,
        learner: nn.Module,
        loss_of_step: LossOfStep,
        options: TrainOptions,
        folder: Path,
        *,
        accelerator: Accelerator | None = None,
        evaluate: Evaluation | None = None,
    ) -> None:
        self.accelerator = accelerator or Accelerator()
        self.options, self.folder = options, folder
        self.loss_of_step, self.evaluate = loss_of_step, evaluate
        folder.mkdir(parents=True, exist_ok=True)
        self.step, self.seconds = 0, 0.0
        groups = parameter_groups(learner, options.weight_decay, options.slower)
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas)
        self.learner, self.optimizer = self.accelerator.prepare(learner, optimizer)
        self.model: nn.Module = learner.model
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.average))
        self.average.requires_grad_(False)
        self._resume()

    def run(self) -> nn.Module:
        """Train to the end of the budget; returns the averaged model in eval mode."""
        self.learner.train()
        started, done = time.monotonic(), self.seconds
        bar = tqdm(disable=not self.accelerator.is_main_process, total=100, unit="%", desc="training")
        progress = self._shared_progress()
        while progress < 1.0:
            figures = self._one_step(progress)
            self.step += 1
            self.seconds = done + time.monotonic() - started
            progress = self._shared_progress()
            bar.set_postfix({k: f"{v:.3f}" for k, v in figures.items()}, refresh=False)
            bar.update(round(100 * progress, 2) - bar.n)
            if self.step % self.options.save_every == 0:
                self._log(figures | {"progress": progress})
                self.save()
            if self.options.evaluate_every and self.step % self.options.evaluate_every == 0:
                self._evaluate()
        bar.close()
        self.save()
        self._evaluate()
        return self.average.module.eval()

    def _one_step(self, progress: float) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.options.rate(self.step, progress)
        with self.accelerator.autocast():
            figures = self.loss_of_step(self.learner, self.step, progress)
        loss = figures["loss"]
        # over all processes: one that stopped alone would leave the others waiting
        shared = self.accelerator.reduce(loss.detach(), "mean")
        if not torch.isfinite(shared):
            raise FloatingPointError(f"the loss became {shared.item()} at step {self.step}; lower the learning rate")
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.learner.parameters(), self.options.clip)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return {name: value.item() for name, value in figures.items()}

    def _shared_progress(self) -> float:
        """The main process's progress: clocks differ between processes, schedules must not."""
        progress = self.options.progress(self.step, self.seconds)
        if self.accelerator.num_processes == 1 or self.options.minutes is None:
            return progress
        shared = torch.tensor(progress, device=self.accelerator.device)
        torch.distributed.broadcast(shared, src=0)
        return shared.item()

    def _evaluate(self) -> None:
        if self.evaluate is not None and self.accelerator.is_main_process:
            self._log(self.evaluate(self.average.module.eval()))
        self.accelerator.wait_for_everyone()

    def _log(self, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            line = {"step": self.step, "seconds": round(self.seconds), **{k: round(v, 4) for k, v in figures.items()}}
            with open(self.folder / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write checkpoint.pt; a crash while writing leaves the one before."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        unfinished = self.folder / "checkpoint.pt.part"
        torch.save(state, unfinished)
        os.replace(unfinished, self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]


def parameter_groups(module: nn.Module, weight_decay: float, slower: tuple[tuple[str, float], ...] = ()) -> list[dict]:
    """Trainable parameters by what they share: matrices and kernels decay; biases, norms and embeddings do not.

    Args:
        slower: (start of a name below `module.model`, share of the learning rate).
    """
    undecayed = {
        id(p) for m in module.modules() if isinstance(m, (nn.LayerNorm, nn.Embedding)) for p in m.parameters(False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or id(parameter) in undecayed or "embed" in name.rsplit(".", 1)[-1]
            share = next((s for start, s in slower if name.startswith(f"model.{start}")), 1.0)
            groups.setdefault((0.0 if plain else weight_decay, share), []).append(parameter)
    return [{"params": p, "weight_decay": decay, "share": share} for (decay, share), p in groups.items()]
