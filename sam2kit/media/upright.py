"""The display matrix of a frame: how a phone says that it was held on its side.

    x' = a x + c y      y' = b x + d y      by the nearest quarter turn; signs say which axis runs backwards

Files keep it per frame; the first frame's is taken for the whole clip, as players do.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType


class DisplayMatrix(NamedTuple):
    """The turning part; fixed-point numbers, of which only signs and sizes beside each other count."""

    a: int = 1
    b: int = 0
    c: int = 0
    d: int = 1

    @classmethod
    def of(cls, frame: av.VideoFrame) -> DisplayMatrix:
        """A frame's own; the identity if it has none."""
        held = cast(SideDataContainer, frame.side_data)  # PyAV's own annotation knows of motion vectors only
        side_data = held.get(SideDataType.DISPLAYMATRIX)
        if side_data is None:
            return cls()
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(side_data), np.int32)[:5])
        return cls(a, b, c, d)

    @property
    def is_sideways(self) -> bool:
        """Whether height and width change places."""
        return abs(self.b) + abs(self.c) > abs(self.a) + abs(self.d)

    def upright(self, image: np.ndarray) -> np.ndarray:
        """Turn and mirror [H, W, 3]."""
        x_sign, y_sign = (self.c, self.b) if self.is_sideways else (self.a, self.d)
        if self.is_sideways:
            image = cv2.transpose(image)
        if x_sign < 0 or y_sign < 0:
            image = cv2.flip(image, -1 if x_sign < 0 and y_sign < 0 else int(x_sign < 0))
        return np.ascontiguousarray(image)
