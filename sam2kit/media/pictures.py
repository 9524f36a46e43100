"""One way into the project for pictures: whatever it is, it comes out as upright 8-bit RGB.

EXIF rotation is applied, alpha is laid on white, grey becomes RGB, 16-bit and float files are stretched by
the range of their values, animations give their first frame.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sam2kit.files import check_file

try:  # phones save HEIC; Pillow reads it when this package is there
    from pillow_heif import register_heif_opener

    register_heif_opener()
except ImportError:
    pass

PictureSource = str | PathLike[str] | bytes | Image.Image | np.ndarray

MAX_PIXELS = 100_000_000  # a gigabyte while it is read, half as much again with 16 bits per channel
_STRIP = 2**20  # pixels
_FORMATS = (  # pictures only: Pillow also opens what is a program (EPS), and hands it to one that runs it
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "PCX", "SGI", "ICO", "HEIF",
    "AVIF",
)  # fmt: skip


def open_image(file: Path | io.BytesIO, name: str = "", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`Image.open` for files from strangers: pictures only, and none that would fill the memory.

    Args:
        name: what people call it, for messages; the path if it is left out.
    Raises:
        ValueError: if it has too many pixels, or none.
        OSError: if it cannot be read; `UnidentifiedImageError` if it is no picture.
    """
    Image.init()  # so that all formats are known
    name = name or str(file)
    try:
        image = Image.open(file, formats=[kind for kind in _FORMATS if kind in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has far more pixels than the limit of {max_pixels / 1e6:.0f} million") from error
    try:
        _check_size(image.width, image.height, name, max_pixels)
    except ValueError:
        image.close()
        raise
    return image


def read_picture(source: PictureSource, *, max_pixels: int = MAX_PIXELS, upright: bool = True) -> np.ndarray:
    """Read a picture.

    Args:
        source: path, encoded bytes, PIL image, or array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]: uint8,
            uint16, bool, or float in 0..1.
        max_pixels: larger pictures are refused before they are decoded.
        upright: follow EXIF rotation; False leaves pictures as they are stored.
    Returns:
        uint8 [H, W, 3] RGB.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no picture, is damaged or too large; names the file.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        _check_size(source.width, source.height, "the given image", max_pixels)
        return _from_pil(source, upright)
    if isinstance(source, bytes):
        return _decode(source, "the given bytes", max_pixels, upright)
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        check_file(path, "picture")
        try:
            return _decode(path.read_bytes(), str(path), max_pixels, upright)
        except OSError as error:
            raise ValueError(f"{path} cannot be opened ({error.strerror})") from error
    raise ValueError(f"a picture must be a path, bytes, PIL image or numpy array, got {type(source).__name__}")


def _decode(content: bytes, name: str, max_pixels: int, upright: bool) -> np.ndarray:
    try:
        image = open_image(io.BytesIO(content), name, max_pixels)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture that can be read; try JPEG or PNG{_heic_hint(name)}") from error
    except ValueError:
        raise
    except Exception as error:  # a broken header fails in many ways
        raise ValueError(f"{name} is damaged and cannot be read ({error})") from error
    with image:
        try:
            if _is_deep_colour(image):
                return _deep_colour(content)
            return _from_pil(image, upright)
        except Exception as error:
            raise ValueError(f"{name} is damaged and cannot be read ({error})") from error


def _heic_hint(name: str) -> str:
    return " (for HEIC: pip install pillow-heif)" if name.lower().endswith((".heic", ".heif")) else ""


def _is_deep_colour(image: Image.Image) -> bool:
    """True for colour files of 16 bits per channel, of which Pillow would keep the upper 8."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in getattr(image, "tile", []))


def _deep_colour(content: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise OSError("its 16-bit colours cannot be decoded")
    return _from_deep_array(decoded, slice(2, None, -1))  # OpenCV begins with blue


def _from_deep_array(array: np.ndarray, rgb: slice = slice(0, 3)) -> np.ndarray:
    """uint16 [H, W, 3 or 4] -> uint8 RGB; colours by the range of their values, alpha by that of its type."""
    colours = _stretch(array[..., rgb])
    return colours if array.shape[2] == 3 else on_white(colours, (array[..., 3] // 257).astype(np.uint8))


def _from_pil(image: Image.Image, upright: bool) -> np.ndarray:
    if upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _grey_to_rgb(_stretch(np.asarray(image)))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows in _strips(rgb):
        strip = np.asarray(image.crop((0, rows.start, image.width, rows.stop)).convert(mode))
        rgb[rows] = strip if mode == "RGB" else on_white(strip[..., :3], strip[..., 3])
    return rgb


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay colours, uint8 [H, W, 3] with alpha uint8 [H, W], on white: uint8 [H, W, 3]."""
    laid = np.empty(rgb.shape, np.uint8)
    for rows in _strips(rgb):
        share = alpha[rows, :, None].astype(np.uint16)
        laid[rows] = (rgb[rows] * share + 255 * (255 - share) + 127) // 255
    return laid


def _strips(array: np.ndarray) -> Iterator[slice]:
    """Some rows at a time, so that what is worked out on the way needs little memory."""
    height, width = array.shape[:2]
    step = max(1, _STRIP // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _from_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"a picture array must be [H, W], [H, W, 3] or [H, W, 4], got shape {list(array.shape)}")
    _check_size(array.shape[1], array.shape[0], "the given array", max_pixels)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        if array.ndim == 3:
            return _from_deep_array(array)
        array = _stretch(array)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError("a float picture must have values in 0..1; divide by 255 or convert to uint8")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"a picture array must be uint8, uint16, bool or float in 0..1, got {array.dtype}")
    if array.ndim == 2:
        return _grey_to_rgb(array)
    if array.shape[2] == 4:
        return on_white(array[..., :3], array[..., 3])
    return np.ascontiguousarray(array)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"{name} has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise ValueError(
            f"{name} has {width}x{height} pixels, more than the limit of {max_pixels / 1e6:.0f} million; "
            "make it smaller"
        )


def _stretch(grey: np.ndarray) -> np.ndarray:
    """Map the smallest value to 0 and the largest to 255; a constant picture becomes black."""

    def values_of(rows: slice) -> np.ndarray:
        return np.nan_to_num(grey[rows].astype(np.float64))

    ends = [(values.min(), values.max()) for values in map(values_of, _strips(grey))]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    stretched = np.empty(grey.shape, np.uint8)
    for rows in _strips(grey):
        stretched[rows] = np.rint((values_of(rows) - low) / max(high - low, 1e-12) * 255)
    return stretched


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)
