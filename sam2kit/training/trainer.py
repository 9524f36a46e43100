"""The training loop: takes steps until they or the minutes run out. Knows nothing of pictures or prompts.

Hugging Face accelerate places it on one process or many, on CPU or GPU. One step may run backward in many pieces, so
that many objects fit a small device; gradients are put together over the processes once, at its end. A checkpoint makes
an interrupted run go on where it was: nothing random is left over from one step to the next.
"""

from __future__ import annotations

import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sam2kit.files import atomic_write, make_folder
from sam2kit.hardware import fit_threads, is_out_of_memory
from sam2kit.model.attention import exact_convolutions
from sam2kit.processes import mean_over_processes, started_together
from sam2kit.training.callbacks import TRAINING, Callback, TrainingEvent, announce
from sam2kit.training.trained_parameters import ShareOf, parameter_groups
from sam2kit.weights import choose_dtype

Backward = Callable[[Tensor], None]  # runs backward from a part of the step's loss
TrainingStep = Callable[[int, float, Backward], dict[str, float]]  # step, progress, backward -> "loss" and figures
_CHECKPOINT = "checkpoint.pt"
MIXED_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}  # as accelerate calls them


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast to learn. Give `steps` or `minutes`."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    final_share: float = 0.02  # of the learning rate, at the end of the cosine
    warmup_steps: int = 100
    warmup_share: float = 0.0  # of the budget; instead of steps, whose number a budget of minutes does not know
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    share_of: ShareOf = lambda name: 1.0
    clip: float = 1.0  # global L2 norm of the gradient
    average: float = 0.998  # decay of the averaged weights, which are what is used; 0 uses the weights as they are
    save_every: int = 500  # steps
    log_every: int = 500  # steps

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes: how long should the training last?")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0..1."""
        if self.minutes is not None:
            return min(seconds / (60 * self.minutes), 1.0)
        assert self.steps is not None, "there are either steps or minutes"
        return min(step / self.steps, 1.0)

    def rate(self, step: int, progress: float) -> float:
        """Learning rate: linear warm-up, then a cosine down to `final_share`."""
        cosine = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2
        warm = (step + 1) / max(self.warmup_steps, 1)
        if self.warmup_share:
            warm = (progress + 0.001) / self.warmup_share
        return self.learning_rate * min(1.0, warm) * cosine


class Trainer:
    """Runs the loop.

    Args:
        model: its parameters with requires_grad are trained; they are to be float32, see `load_model(trainable=True)`.
        training_step: computes one step's losses on this process and runs backward from them. Losses of the processes
            are averaged; a loss that is to be summed has to be multiplied by their number.
        folder: checkpoint.pt and log.jsonl live here; a checkpoint found there is continued.
        callbacks: hear of each step on the main process.
        describe: names the samples of the latest step, for the message when it fails.
        shrink: called on all processes when a device ran out of memory; changes what `training_step` does and returns
            whether it is worth another try.
    """

    def __init__(
        self,
        model: nn.Module,
        training_step: TrainingStep,
        options: LoopOptions,
        folder: Path,
        accelerator: Accelerator,
        *,
        callbacks: Sequence[Callback] = (),
        describe: Callable[[], str] = lambda: "",
        shrink: Callable[[], bool] = lambda: False,
    ) -> None:
        self.accelerator, self.options, self.folder = accelerator, options, make_folder(folder)
        self.training_step, self.describe, self.shrink = training_step, describe, shrink
        self.callbacks = callbacks if accelerator.is_main_process else ()
        self.step, self.seconds, self.stopping = 0, 0.0, False
        self.model = model.to(accelerator.device)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if rounded := {p.dtype for p in self.trained.values()} - {torch.float32}:
            name = str(rounded.pop()).removeprefix("torch.")  # steps of training are too small for 16 bits
            raise ValueError(f"weights of {name} cannot be trained; load the model with trainable=True")
        groups = parameter_groups(model, options.weight_decay, options.share_of)
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas)
        self.optimizer = accelerator.prepare(optimizer)
        self.average = None
        if options.average:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.average))
            self.average.requires_grad_(False)
        self._resume()

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self._shared_progress() >= 1.0

    @property
    def kept(self) -> nn.Module:
        """The model that is used afterwards: the averaged one, if there is one."""
        return self.model if self.average is None else self.average.module

    def run(self, until: int | None = None) -> None:
        """Train to the end of the budget, or to step `until`; the model to be kept is in eval mode then.

        Raises:
            KeyboardInterrupt: when Ctrl-C, SIGTERM or a callback stopped it, after the checkpoint is written.
            FloatingPointError: if a loss is not a number.
        """
        self.model.train()
        started, done = time.monotonic(), self.seconds
        progress = self._shared_progress()
        self._announce(progress, {})
        with self._signals():
            while progress < 1.0 and (until is None or self.step < until) and not self._stopped_anywhere():
                figures = self._one_step(progress)
                self.step += 1
                self.seconds = done + time.monotonic() - started
                progress = self._shared_progress()
                if self.step % self.options.log_every == 0:
                    self.log(figures | {"progress": progress})
                self._announce(progress, figures)
                if self.step % self.options.save_every == 0:
                    self.save()
        self.save()
        if self._stopped_anywhere():
            raise KeyboardInterrupt
        self.kept.eval()

    def _announce(self, progress: float, figures: dict[str, float]) -> None:
        event = TrainingEvent(TRAINING, self.step, self.seconds, progress, figures=figures)
        self.stopping = announce(self.callbacks, event) or self.stopping

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C lets the current step finish; a second one does not."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def asked(number: int, frame: FrameType | None) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True

        before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stopped_anywhere(self) -> bool:
        return mean_over_processes(float(self.stopping), self.accelerator) > 0

    def _one_step(self, progress: float) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.options.rate(self.step, progress)
        figures = self._of_all_processes(self._forward_and_backward(progress))
        self._check(figures["loss"], "loss")
        if not self._share_gradients():
            return figures  # no process had anything to learn from
        norm = self.accelerator.clip_grad_norm_(list(self.trained.values()), self.options.clip)
        if self.accelerator.scaler is None:  # which would look after this itself
            self._check(float(norm), "gradient")
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return figures

    def _check(self, value: float, name: str) -> None:
        """Stop before weights are damaged; on all processes, or the others would wait for the one that stopped."""
        if not math.isfinite(value):
            samples = self.describe()
            where = f"step {self.step}" + (f" ({samples})" if samples else "")
            raise FloatingPointError(f"the {name} became {value} at {where}; look at these samples, or lower the rate")

    def _of_all_processes(self, figures: dict[str, float]) -> dict[str, float]:
        """Figures averaged over the processes that have them."""
        if self.accelerator.num_processes == 1:
            return figures
        everyone = gather_object([figures])
        names = dict.fromkeys(name for one in everyone for name in one)
        return {n: statistics.fmean(one[n] for one in everyone if n in one) for n in names}

    def _forward_and_backward(self, progress: float) -> dict[str, float]:
        """One step's gradients; again, with less at a time, if a device was full."""
        device = self.accelerator.device
        float32_gpu = self.accelerator.mixed_precision == "no" and device.type == "cuda"
        while True:
            self.optimizer.zero_grad()
            torch.manual_seed(hash((self.step, self.accelerator.process_index)) & 0xFFFFFFFF)  # dropped paths
            full, figures = False, {}
            try:
                if device.type == "cpu":
                    fit_threads()
                with self.accelerator.autocast(), exact_convolutions() if float32_gpu else nullcontext():
                    figures = self.training_step(self.step, progress, self.accelerator.backward)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                full = True
            if mean_over_processes(float(full), self.accelerator) == 0:
                return figures
            self.optimizer.zero_grad()
            if device.type in ("cuda", "mps"):
                getattr(torch, device.type).empty_cache()
            if not self.shrink():
                raise torch.OutOfMemoryError("the device is full, and there is no smaller step to take")

    def _share_gradients(self) -> bool:
        """Average the gradients over the processes; what none of them used keeps none.

        Returns:
            whether there is any gradient.
        """
        parameters = list(self.trained.values())
        if self.accelerator.num_processes == 1:
            return any(p.grad is not None for p in parameters)
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=self.accelerator.device)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.accelerator.reduce(torch.cat([used, *(g.flatten().float() for g in parts)]), "mean")
        used, flat = flat[: len(parameters)], flat[len(parameters) :]
        for p, anywhere, part in zip(parameters, used, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p).to(p.dtype) if anywhere else None
        return bool(used.any())

    def _shared_progress(self) -> float:
        """The main process's progress: clocks differ between processes, schedules must not."""
        shared = [self.options.progress(self.step, self.seconds)]
        if self.accelerator.num_processes > 1 and self.options.minutes is not None:
            broadcast_object_list(shared)
        return shared[0]

    def log(self, figures: dict[str, float]) -> None:
        """Add a line to log.jsonl."""
        if self.accelerator.is_main_process:
            line = {"step": self.step, "seconds": round(self.seconds), **{k: round(v, 4) for k, v in figures.items()}}
            with open(self.folder / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write checkpoint.pt; a crash while writing leaves the one before."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": {name: p.detach() for name, p in self.trained.items()},
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_write(self.folder / _CHECKPOINT) as unfinished:
            torch.save(state, unfinished)

    @torch.no_grad()
    def _resume(self) -> None:
        path = self.folder / _CHECKPOINT
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            saved, average, optimizer = state["model"], state["average"], state["optimizer"]
            self.step, self.seconds = state["step"], state["seconds"]
        except Exception as error:  # an unreadable pickle fails in many ways
            raise ValueError(f"{path} is damaged; delete it to begin anew, or choose another folder") from error
        if saved.keys() != self.trained.keys():
            raise ValueError(f"{path} is a checkpoint of another recipe or model; choose another folder or delete it")
        for name, p in self.trained.items():
            p.copy_(saved[name])
        if self.average is not None:
            self.average.load_state_dict(average)
        self.optimizer.load_state_dict(optimizer)
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])


def dtype_for_all(precision: str, device: torch.device) -> torch.dtype:
    """The precision to train in; several processes need the same, so it is one that all GPUs here compute in."""
    devices = [device]
    if device == torch.device("cuda") and started_together():
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    dtypes = {choose_dtype(precision, one) for one in devices}
    return dtypes.pop() if len(dtypes) == 1 else torch.float16
