"""Click on pictures and clips inside a notebook.

    from sam2kit.widgets import ClickImage

    widget = ClickImage(predictor, "photo.jpg")
    widget                                      # click, shift-click, drag a box
    widget.masks                                # in the next cell: name -> bool [H, W]

Works wherever ipywidgets do: JupyterLab, Notebook 7, VS Code, Colab. Elsewhere, as on a page that only shows notebooks,
it is a static picture of what was clicked.
"""

from sam2kit.widgets.click_image import ClickImage
from sam2kit.widgets.click_video import ClickVideo

__all__ = ["ClickImage", "ClickVideo"]
