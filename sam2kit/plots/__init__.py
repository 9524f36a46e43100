"""How to show it in a notebook: matplotlib figures of masks, frames, maps, diagrams and scores."""

from sam2kit.plots.annotating import annotate
from sam2kit.plots.curves import show_calibration, show_curves, show_intervals
from sam2kit.plots.diagrams import show_reach, show_recollections
from sam2kit.plots.maps import principal_colours, show_maps, show_matrix
from sam2kit.plots.masks import show_masks, show_sheet
from sam2kit.plots.overlaps import show_boundary, show_comparison, show_overlap
from sam2kit.plots.strips import show_presence, show_strip

__all__ = [
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
    "show_recollections",
    "show_sheet",
    "show_strip",
]
