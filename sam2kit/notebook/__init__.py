"""In a notebook: click on pictures and clips, and figures of masks, frames, maps, diagrams and scores."""

from sam2kit.notebook.click_widget import ClickWidget
from sam2kit.notebook.figures import annotate, show_masks, show_presence, show_sheet, show_strip
from sam2kit.notebook.maps import principal_colours, show_maps, show_matrix, show_reach, show_selected_memories
from sam2kit.notebook.score_figures import (
    show_boundary,
    show_calibration,
    show_comparison,
    show_curves,
    show_intervals,
    show_overlap,
)

__all__ = [
    "ClickWidget",
    "annotate",
    "principal_colours",
    "show_boundary",
    "show_calibration",
    "show_comparison",
    "show_curves",
    "show_intervals",
    "show_maps",
    "show_masks",
    "show_matrix",
    "show_overlap",
    "show_presence",
    "show_reach",
    "show_selected_memories",
    "show_sheet",
    "show_strip",
]
