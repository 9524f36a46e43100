"""Write pictures with masks as folders that mask_folders.py, and many other programs, read.

train/images/a.png   train/masks/a.png               a number per object; black and white if there is only one
train/images/b.jpg   train/masks/b/1.png, 2.png      one file per object, where objects overlap or are too many

What is read again is what was written: numbers come with a palette, so that nobody takes them for shades of grey.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sam2kit.media.bundles import FileBundle, png_bytes
from sam2kit.media.exports import NamedMask, jpeg_bytes, mask_image, overlap

_MOST_NUMBERS = 255  # in a palette


def write_labelled(
    bundle: FileBundle, split: str, stem: str, image: np.ndarray, objects: Sequence[NamedMask], *, lossy: bool = False
) -> None:
    """Add one picture and its masks.

    Args:
        bundle: the folder or the zip; all stems of a split must differ, whatever their case.
        split: "train", "val" or "test".
        stem: of the file names; plain, without folders and suffix.
        image: uint8 [H, W, 3].
        objects: with masks of the size of the picture; empty ones are left out.
        lossy: write the picture as JPEG, which is enough for what was one before. Masks are always exact.
    Raises:
        ValueError: if no object is left.
    """
    full = [item for item in objects if item.area]
    if not full:
        raise ValueError(f"{stem} has no object that covers anything; click one, or leave the picture out")
    suffix, content = ("jpg", jpeg_bytes(image)) if lossy else ("png", png_bytes(Image.fromarray(image)))
    bundle.write(f"{split}/images/{stem}.{suffix}", content)
    if len(full) <= _MOST_NUMBERS and not overlap(item.mask for item in full):
        bundle.write(f"{split}/masks/{stem}.png", png_bytes(mask_image(full)))
        return
    for number, item in enumerate(full, start=1):
        bundle.write(f"{split}/masks/{stem}/{number}.png", png_bytes(mask_image([item])))
