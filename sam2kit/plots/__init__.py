"""How to show it in a notebook: matplotlib figures of masks, frames, maps and curves."""

from sam2kit.plots.masks import show_masks

__all__ = ["show_masks"]
