"""Teach a model a handful of labelled photos, as a series of events that a page can show: the app's way to training/.

    for event in train_events(TeachPlan("nano", data, out, minutes=2)):
        print(event["phase"], event.get("loss"))
    taught = load_model(out)

Plans and events are plain data, and a file ends a run, so the training may happen in another process than the page.
The engine is not imported before somebody trains.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

import torch

from sam2kit.datasets.opening import open_dataset
from sam2kit.errors import is_out_of_memory
from sam2kit.evaluation.side_by_side import Comparison, compare
from sam2kit.finetuned import is_finetuned, read_finetuned
from sam2kit.hub import FINETUNED_JSON, FINETUNED_WEIGHTS, HubError
from sam2kit.media.bundles import FileBundle
from sam2kit.predict.image import ImagePredictor
from sam2kit.training import witness

if TYPE_CHECKING:
    from sam2kit.training.report import Result

WAITING, LOADING = "waiting", "loading"  # phases that a run begins with
EXAM_BEFORE, TRAINING, EXAM = witness.EXAM_BEFORE, witness.TRAINING, witness.EXAM  # that it goes through
DONE, STOPPED, FAILED = "done", "stopped", "failed"  # that it ends with
PHASES = (WAITING, LOADING, EXAM_BEFORE, TRAINING, EXAM, DONE, STOPPED, FAILED)
_KEPT = (FINETUNED_WEIGHTS, "curves.png", "history.json", "result.md")  # besides FINETUNED_JSON, of a download
_ONE_AT_A_TIME = Lock()  # accelerate has one state for the whole process
_LOOK_AGAIN = 0.5  # seconds

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TeachPlan:
    """What to teach, and where the result goes."""

    base: str  # as for `load_model`
    data: Path  # a dataset with train and val, see datasets/mask_writing.py; a run ends when it is gone
    out: Path  # a new folder
    recipe: str = "decoder"
    minutes: float = 2.0  # for tests and training together; the last test may take a little longer
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
    side: int | None = None  # edge of the model's square, in pixels; None keeps the base's own

    @property
    def stop_file(self) -> Path:
        """As soon as it is there, the run ends and keeps the best so far."""
        return self.out.with_name(self.out.name + ".stop")


def train_events(plan: TeachPlan) -> Generator[dict[str, Any], None, None]:
    """Train, and tell what happens. Closing the iterator stops the run.

    Yields:
        events as `finetune` gives them to `each_step`, each with "phase"; before them {"phase": "waiting"} while
        another run has its turn, and {"phase": "loading"}; at last "done" or "stopped" with the fields of a `Result`
        - none but the phase if it was stopped before there was one - or "failed" with "error", a sentence.
    """
    events: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    closed = Event()
    thread = Thread(target=_train_and_end, args=(plan, events, closed), name="teaching", daemon=True)
    thread.start()
    try:
        yield from iter(events.get, None)
    finally:
        closed.set()
        thread.join()


def _train_and_end(plan: TeachPlan, events: SimpleQueue[dict[str, Any] | None], closed: Event) -> None:
    def stop() -> bool:
        return closed.is_set() or plan.stop_file.exists() or not plan.data.is_dir()

    try:
        events.put(_last_event(plan, events.put, stop))
    finally:
        events.put(None)


def _last_event(plan: TeachPlan, tell: Tell, stop: Callable[[], bool]) -> dict[str, Any]:
    try:
        return _ended(DONE, _train(plan, tell, stop))
    except KeyboardInterrupt:
        return left_by(plan)
    except ModuleNotFoundError as error:
        return {"phase": FAILED, "error": f"training needs {error.name}: pip install -r requirements.txt"}
    except (ValueError, OSError, HubError, FloatingPointError) as error:
        return {"phase": FAILED, "error": str(error)}
    except Exception as error:  # a page must hear of it, whatever it is
        if is_out_of_memory(error):
            return {"phase": FAILED, "error": "the device has no memory left for training; take a smaller model"}
        logging.getLogger(__name__).exception("training broke off")
        return {"phase": FAILED, "error": f"training broke off ({type(error).__name__}: {error}); see the app's log"}
    finally:
        (plan.out / "checkpoint.pt").unlink(missing_ok=True)  # large, and no run goes on here
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def left_by(plan: TeachPlan) -> dict[str, Any]:
    """The last event of a run that was stopped, or whose process was: with what there is in its folder."""
    from sam2kit.training.report import result_so_far

    return _ended(STOPPED, result_so_far(plan.out))


def _train(plan: TeachPlan, tell: Tell, stop: Callable[[], bool]) -> Result:
    while not _ONE_AT_A_TIME.acquire(timeout=_LOOK_AGAIN):
        tell({"phase": WAITING})
        if stop():
            raise KeyboardInterrupt
    try:
        tell({"phase": LOADING})
        from sam2kit.training.budget import Budget
        from sam2kit.training.finetune import finetune

        budget = Budget(minutes=plan.minutes, side=plan.side, device=plan.device, general=False, pictures=0)
        return finetune(plan.base, plan.data, plan.recipe, out=plan.out, budget=budget, each_step=tell, stop=stop)
    finally:
        _ONE_AT_A_TIME.release()


def _ended(phase: str, result: Result | None) -> dict[str, Any]:
    if result is None:
        return {"phase": phase}
    told = replace(result, folder=Path(result.folder.name))  # the result travels; where it lay here says nothing then
    (result.folder / "result.md").write_text(told.text() + "\n", encoding="utf-8")
    return {**asdict(told), "folder": told.folder.name, "phase": phase}


def comparisons(data: Path, before: ImagePredictor, after: ImagePredictor) -> list[Comparison]:
    """What two models show after one click, on the held-out photos of a dataset with train and val."""
    samples = open_dataset(data).of_split("val").pictures
    return [compare(Path(sample.name).name, sample.read(), before, after) for sample in samples]


def zip_taught(folder: Path, path: Path) -> Path:
    """A taught model as a zip, complete or not at all: a folder for `load_model`, with its curves and numbers.

    A base that lies beside it, because it was taught before, comes along.
    """
    with FileBundle(path) as bundle:
        _add_taught(bundle, folder)
    return path


def _add_taught(bundle: FileBundle, folder: Path, seen: tuple[Path, ...] = ()) -> None:
    if folder in seen:
        raise ValueError(f"{folder} is its own base, so there is nothing to start from; put the base right")
    about = read_finetuned(folder)
    base = Path(about.base)
    if base.is_absolute() and base.parent == folder.parent and is_finetuned(base):
        _add_taught(bundle, base, (*seen, folder))
        about = replace(about, base=f"../{base.name}")
    bundle.write(f"{folder.name}/{FINETUNED_JSON}", json.dumps(asdict(about)))
    for name in _KEPT:
        if (folder / name).exists():
            bundle.write(f"{folder.name}/{name}", (folder / name).read_bytes())
