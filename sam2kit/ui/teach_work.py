"""One visitor's work in the Fine-tune tab: labelled photos, trainings, and what they made.

Everything that the tab can do, as plain calls without any user interface.

    photos --- some to learn from, some for the test ---> data-1/ --- TeachRun ---> mine-1/ for load_model
                                                          data-2/ ...              mine-2/ ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from sam2kit.evaluation.side_by_side import Comparison
from sam2kit.predict.image import ImagePredictor
from sam2kit.teaching import TeachPlan, comparisons, train_events, zip_taught
from sam2kit.ui.labelled_photos import LabelledPhotos
from sam2kit.ui.own_folder import OwnFolder
from sam2kit.ui.teach_run import Events, TeachRun

if TYPE_CHECKING:
    from sam2kit.ui.networks import Network

_PATIENCE = 5.0  # seconds, for a training to end when the visitor is gone


@dataclass
class TeachWork(LabelledPhotos):
    """Photos and trainings; see the module's text."""

    runs: list[TeachRun] = field(default_factory=list)
    networks: dict[str, Network] = field(default_factory=dict)  # of taught models that are loaded, by name
    compared: dict[str, str] = field(default_factory=dict)  # HTML of before and after, by the taught model's name
    _folder: OwnFolder = field(default_factory=OwnFolder)

    @property
    def folder(self) -> Path:
        """A folder for this visitor's files; it goes when the work goes."""
        return self._folder.path

    def dataset_zip(self) -> Path:
        """The labelled photos as a download."""
        return self.write_dataset(self.folder / "labelled-photos.zip")

    # training

    @property
    def run(self) -> TeachRun | None:
        """The training that is going on."""
        return next((run for run in self.runs if not run.finished.is_set()), None)

    def start(
        self, network: Network, recipe: str, minutes: float, *, device: str | None = None, events: Events = train_events
    ) -> TeachRun:
        """Begin a training, in a thread and a folder of its own.

        Args:
            network: what to begin with: the app's, named as for `load_model`, or a fine-tuned one.
            recipe: "decoder" or "lora".
            minutes: how long.
            device: where; None takes the network's.
            events: carries the plan out.
        Raises:
            ValueError: if something is missing, or a training is going on.
        """
        missing = "Training is going on: stop it first." if self.run is not None else self.ready()
        if missing is not None:
            raise ValueError(missing)
        number, model = len(self.runs) + 1, network.images.model
        name = f"mine-{number}"
        data = self.write_dataset(self.folder / f"data-{number}")
        self.fix_parts()
        base = str(self.taught.get(network.name, network.name))
        plan = TeachPlan(
            base, data, self.folder / name, recipe, minutes, device or str(model.device), model.config.side
        )
        self.runs.append(TeachRun(name, plan, events))
        return self.runs[-1].start()

    @property
    def taught(self) -> dict[str, Path]:
        """The folders of the fine-tuned models, by name."""
        return {run.name: run.folder for run in self.runs if run.folder is not None}

    def comparisons(self, before: ImagePredictor, after: ImagePredictor, name: str | None = None) -> list[Comparison]:
        """Two models side by side, on the test photos of a training; None is the latest.

        Raises:
            ValueError: if there is none yet.
        """
        return comparisons(self._taught_run(name).plan.data, before, after)

    def result_zip(self, name: str | None = None) -> Path:
        """A fine-tuned model as a download; None is the latest.

        Raises:
            ValueError: if there is none yet.
        """
        run = self._taught_run(name)
        return zip_taught(run.plan.out, self.folder / f"{run.name}.zip")

    def _taught_run(self, name: str | None) -> TeachRun:
        found = [run for run in self.runs if run.folder is not None and name in (None, run.name)]
        if not found:
            raise ValueError("there is no fine-tuned model yet; train first")
        return found[-1]

    def close(self) -> None:
        """Stop what is going on and delete the visitor's files."""
        run, folder = self.run, self._folder
        for photo in self.photos:
            photo.close()
        self._folder = OwnFolder()
        if run is not None:
            run.stop()
            if not run.finished.wait(_PATIENCE):  # a step may take long; nobody should wait for it here
                Thread(target=_delete_after, args=(run, folder), daemon=True).start()
                return
        folder.delete()


def _delete_after(run: TeachRun, folder: OwnFolder) -> None:
    run.finished.wait()
    folder.delete()
