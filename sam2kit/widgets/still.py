"""A widget as a picture, for pages that cannot show the widget itself."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HINT = "A picture of the click widget. To click, run the notebook in JupyterLab, Notebook 7, VS Code or Colab."
_WIDTH = 720  # pixels, at most
_LINE = 26
_PAPER, _INK = (245, 245, 245), (90, 90, 90)


def still_picture(view: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] at most 720 pixels wide, with a line below that says how to get the live widget."""
    picture = Image.fromarray(view)
    if picture.width > _WIDTH:
        picture = picture.resize((_WIDTH, round(picture.height * _WIDTH / picture.width)), Image.Resampling.LANCZOS)
    size = 13
    font = ImageFont.load_default(size)
    while font.getlength(HINT) > picture.width - 12 and size > 6:
        size -= 1
        font = ImageFont.load_default(size)
    page = Image.new("RGB", (picture.width, picture.height + _LINE), _PAPER)
    page.paste(picture)
    ImageDraw.Draw(page).text((6, picture.height + _LINE // 2), HINT, _INK, font, anchor="lm")
    return np.asarray(page)
