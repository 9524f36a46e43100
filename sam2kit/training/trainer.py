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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from sam2kit.errors import is_out_of_memory
from sam2kit.evaluation.processes import join_processes
from sam2kit.files import make_folder, written_whole
from sam2kit.model.quick_products import exact_convolutions
from sam2kit.threads import fit_threads
from sam2kit.training.parameters import ShareOf, everything_alike, parameter_groups

Model = TypeVar("Model", bound=nn.Module)
Backward = Callable[[Tensor], None]  # runs backward from a part of the step's loss
PlayStep = Callable[[int, float, Backward], dict[str, float]]  # step, progress, backward -> "loss" and figures
Evaluation = Callable[[Model], dict[str, float]]  # model -> numbers


@dataclass(frozen=True)
class TrainOptions:
    """How long and how fast to learn. Give `steps` or `minutes`."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    final_share: float = 0.02  # of the learning rate, at the end of the cosine
    warmup_steps: int = 100
    warmup_share: float = 0.0  # of the budget; instead of steps, whose number a budget of minutes does not know
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    share_of: ShareOf = everything_alike  # parameters that learn slower
    clip: float = 1.0  # global L2 norm of the gradient
    average: float = 0.998  # decay of the averaged weights, which are what is used; 0 uses the weights as they are
    save_every: int = 500  # steps
    log_every: int = 500  # steps
    evaluate_every: int = 0  # steps; 0 evaluates at the end only

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes: how long should the training last?")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0..1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None, "there are either steps or minutes"
        return min(seconds / (60 * self.minutes), 1.0)

    def rate(self, step: int, progress: float) -> float:
        """Learning rate: linear warm-up, then a cosine down to `final_share`."""
        cosine = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2
        warm = (step + 1) / max(self.warmup_steps, 1)
        if self.warmup_share:
            warm = (progress + 0.001) / self.warmup_share
        return self.learning_rate * min(1.0, warm) * cosine


class Trainer(Generic[Model]):
    """Runs the loop.

    Args:
        model: its parameters with requires_grad are trained.
        play: computes one step's losses on this process and runs backward from them. Losses of the processes are
            averaged; a loss that is to be summed has to be multiplied by their number.
        folder: checkpoint.pt and log.jsonl live here; a checkpoint found there is continued.
        accelerator: None makes one for this process alone.
        evaluate: measures the model that would be kept; called on the main process.
        about_step: says what the latest step was about, for the message when it fails.
        watch: called on the main process with each line of the log.
        make_room: called on all processes when a device ran out of memory; changes what `play` does and returns
            whether it is worth another try.
        bar: whether to draw a progress bar.
    Raises:
        ValueError: if weights of 16 bits are to be trained.
    """

    def __init__(
        self,
        model: Model,
        play: PlayStep,
        options: TrainOptions,
        folder: Path,
        *,
        accelerator: Accelerator | None = None,
        evaluate: Evaluation[Model] | None = None,
        about_step: Callable[[], str] = lambda: "",
        watch: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
        make_room: Callable[[], bool] = lambda: False,
        bar: bool = True,
    ) -> None:
        self.accelerator = accelerator or join_processes()
        self.options, self.folder = options, folder
        self.play, self.evaluate, self.make_room = play, evaluate, make_room
        self.about_step, self.watch, self.bar = about_step, watch, bar
        make_folder(folder)
        self.step, self.seconds, self.stopping = 0, 0.0, False
        self.model = model.to(self.accelerator.device)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        _check_precision(self.trained)
        groups = parameter_groups(model, options.weight_decay, options.share_of)
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas)
        self.optimizer = self.accelerator.prepare(optimizer)
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
    def kept(self) -> Model:
        """The model that is used afterwards: the averaged one, if there is one."""
        return self.model if self.average is None else cast(Model, self.average.module)  # which is a copy of the model

    def run(self, until: int | None = None) -> Model:
        """Train to the end of the budget, or to step `until`; returns the model to be kept, in eval mode.

        Raises:
            KeyboardInterrupt: when it was asked to stop (Ctrl-C, SIGTERM or `stop`), after the checkpoint is written.
            FloatingPointError: if a loss is not a number.
        """
        self.model.train()
        started, done = time.monotonic(), self.seconds
        progress = self._shared_progress()
        shown = {"total": 100, "initial": round(100 * progress, 2), "unit": "%", "desc": "training"}
        bar = tqdm(disable=not (self.bar and self.accelerator.is_main_process), **shown)
        with self._signals():
            while progress < 1.0 and (until is None or self.step < until) and not self._stopped_anywhere():
                figures = self._one_step(progress)
                self.step += 1
                self.seconds = done + time.monotonic() - started
                progress = self._shared_progress()
                bar.set_postfix({k: f"{v:.3f}" for k, v in figures.items()}, refresh=False)
                bar.update(round(100 * progress, 2) - bar.n)
                self._now_and_then(figures | {"progress": progress})
        bar.close()
        self.save()
        if self._stopped_anywhere():
            raise KeyboardInterrupt
        if until is None:
            self._evaluate()
        return self.kept.eval()

    def stop(self) -> None:
        """Ask `run` to end after the current step; also from another thread."""
        self.stopping = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C lets the current step finish; a second one does not."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def asked(number: int, frame: FrameType | None) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stop()

        before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stopped_anywhere(self) -> bool:
        return mean_over_processes(float(self.stopping), self.accelerator) > 0

    def _now_and_then(self, figures: dict[str, float]) -> None:
        if self.step % self.options.log_every == 0:
            self.log(figures)
        if self.step % self.options.save_every == 0:
            self.save()
        if self.options.evaluate_every and self.step % self.options.evaluate_every == 0:
            self._evaluate()
            self.model.train()

    def _one_step(self, progress: float) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * self.options.rate(self.step, progress)
        figures = self._of_all_processes(self._play(progress))
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
        """Stop before weights are spoilt; on all processes, or the others would wait for the one that stopped."""
        if not math.isfinite(value):
            about = self.about_step()
            where = f"step {self.step}" + (f" ({about})" if about else "")
            raise FloatingPointError(f"the {name} became {value} at {where}; look at these samples, or lower the rate")

    def _of_all_processes(self, figures: dict[str, float]) -> dict[str, float]:
        """Figures averaged over the processes that have them."""
        if self.accelerator.num_processes == 1:
            return figures
        everyone = gather_object([figures])
        names = dict.fromkeys(name for one in everyone for name in one)
        return {n: statistics.fmean(one[n] for one in everyone if n in one) for n in names}

    def _play(self, progress: float) -> dict[str, float]:
        """One step forward and backward; again, with less at a time, if a device was full."""
        while True:
            self.optimizer.zero_grad()
            torch.manual_seed(hash((self.step, self.accelerator.process_index)) & 0xFFFFFFFF)  # dropped paths
            full, figures = False, {}
            float32 = self.accelerator.mixed_precision == "no"
            exact = exact_convolutions() if float32 and self.accelerator.device.type == "cuda" else nullcontext()
            try:
                if self.accelerator.device.type == "cpu":
                    fit_threads()
                with self.accelerator.autocast(), exact:
                    figures = self.play(self.step, progress, self.accelerator.backward)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                full = True
            if mean_over_processes(float(full), self.accelerator) == 0:
                return figures
            self.optimizer.zero_grad()
            empty_cache(self.accelerator.device)
            if not self.make_room():
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
        progress = self.options.progress(self.step, self.seconds)
        if self.accelerator.num_processes == 1 or self.options.minutes is None:
            return progress
        shared = torch.tensor(progress, dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.broadcast(shared, src=0)
        return shared.item()

    def _evaluate(self) -> None:
        if self.evaluate is not None and self.accelerator.is_main_process:
            self.log(self.evaluate(self.kept.eval()))
        self.accelerator.wait_for_everyone()

    def log(self, figures: dict[str, float]) -> None:
        """Add a line to log.jsonl."""
        if self.accelerator.is_main_process:
            self.watch(self.step, figures)
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
        with written_whole(self.folder / "checkpoint.pt") as unfinished:
            torch.save(state, unfinished)

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            known = {"model", "average", "optimizer", "step", "seconds"} <= state.keys()
        except Exception as error:  # an unreadable pickle fails in many ways
            raise ValueError(f"{path} is damaged; delete it to begin anew, or choose another folder") from error
        if not known:
            raise ValueError(f"{path} is no checkpoint of a training; delete it, or choose another folder")
        if state["model"].keys() != self.trained.keys():
            raise ValueError(f"{path} is a checkpoint of another recipe or model; choose another folder or delete it")
        with torch.no_grad():
            for name, p in self.trained.items():
                p.copy_(state["model"][name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]


def _check_precision(trained: Mapping[str, nn.Parameter]) -> None:
    """Steps of training are too small for weights of 16 bits; autocast computes in them, and the weights stay."""
    rounded = next((p.dtype for p in trained.values() if p.dtype != torch.float32), None)
    if rounded is not None:
        name = str(rounded).removeprefix("torch.")
        raise ValueError(f"weights of {name} cannot be trained; load the model with trainable=True")


def empty_cache(device: torch.device) -> None:
    """Give back what a GPU keeps for later tensors."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def mean_over_processes(value: float, accelerator: Accelerator) -> float:
    """The mean of a number that each process knows a part of; all of them have to ask."""
    if accelerator.num_processes == 1:
        return float(value)
    shared = torch.tensor(value, dtype=torch.float32, device=accelerator.device)
    return accelerator.reduce(shared, "mean").item()
