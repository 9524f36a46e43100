"""One way into the project for pictures: whatever it is, it comes out as upright 8-bit RGB.

EXIF rotation is applied, alpha is laid on white, grey becomes RGB, animations give their first frame. Pictures of 16
bits and floats are stretched by the range of their values: NaN, infinity and numbers that stand for "no data" (-9999,
or what a TIFF states) are left out of the range and shown black; a few outliers, such as hot pixels, are cut off where
they would take most of the contrast. A warning says so.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sam2kit.files import check_file

try:  # phones save HEIC; Pillow reads it when this package is there
    from pillow_heif import register_heif_opener

    register_heif_opener()
except ImportError:
    pass

PictureSource = str | PathLike[str] | bytes | Image.Image | np.ndarray

MAX_PIXELS = 100_000_000  # a gigabyte while it is read, half as much again with 16 bits per channel
_STRIP = 2**20  # pixels
_RANGED_FRAMES = 32  # of a clip, whose values say which are black and white in all of it
_NO_DATA_TAG = 42113  # GDAL's, of TIFF
_SAMPLE_BITS, _SAMPLE_FORMAT = 258, 339  # tags of TIFF
_TIFF = (b"II*\0", b"MM\0*")
_FORMATS = (  # pictures only: Pillow also opens what is a program (EPS), and hands it to one that runs it
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "PCX", "SGI", "ICO", "HEIF",
    "AVIF",
)  # fmt: skip
_SAMPLED = 2**20  # values that are looked at of one picture, or of a clip
_OUTLIERS = 0.001  # of the values, at each end
_TAKES_CONTRAST = 2  # how many times the range of all others
_NO_DATA_GAP = 10  # how many times the range of all others lies between them and a mark for "no data"
_NO_DATA_SHARE = 0.0005  # of the values, at least


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


def read_picture(
    source: PictureSource,
    *,
    max_pixels: int = MAX_PIXELS,
    value_range: ValueRange | None = None,
    upright: bool = True,
) -> np.ndarray:
    """Read a picture. Warns if values of 16 bits or floats were left out of its contrast.

    Args:
        source: path, encoded bytes, PIL image, or array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]: uint8,
            uint16, bool, or float in 0..1.
        max_pixels: larger pictures are refused before they are decoded.
        value_range: of a clip, for its frames of 16 bits or floats; None takes the picture's own.
        upright: follow EXIF rotation; False leaves pictures as they are stored.
    Returns:
        uint8 [H, W, 3] RGB.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no picture, is damaged or too large; names the file.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, value_range)
    if isinstance(source, Image.Image):
        _check_size(source.width, source.height, "the given image", max_pixels)
        return _from_pil(source, "the given image", value_range, upright)
    if isinstance(source, bytes):
        return _decode(source, "the given bytes", max_pixels, value_range, upright)
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        check_file(path, "picture")
        try:
            return _decode(path.read_bytes(), str(path), max_pixels, value_range, upright)
        except OSError as error:
            raise ValueError(f"{path} cannot be opened ({error.strerror})") from error
    raise ValueError(f"a picture must be a path, bytes, PIL image or numpy array, got {type(source).__name__}")


def shared_range(sources: Sequence[PictureSource] | np.ndarray) -> ValueRange | None:
    """The range of values of a clip whose frames are of 16 bits or floats, from some of them; None for other clips.

    Frames that cannot be read are passed over; reading them says what is wrong.
    """
    first = None if isinstance(sources, np.ndarray) else _deep_values(sources[0])
    if first is None:
        return None
    values, no_data = first
    chosen = np.unique(np.linspace(0, len(sources) - 1, min(_RANGED_FRAMES, len(sources))).astype(int))
    frames = (deep[0] for i in chosen if (deep := _deep_values(sources[i])) is not None)
    return range_of((frame[rows] for frame in frames for rows in _strips(frame)), values.size * len(chosen), no_data)


def _deep_values(source: PictureSource) -> tuple[np.ndarray, float | None] | None:
    """The values of a picture of 16 bits or floats, and what stands for "no data"; None for other pictures."""
    if isinstance(source, np.ndarray):
        return (source[..., :3] if source.ndim == 3 else source, None) if source.dtype == np.uint16 else None
    if isinstance(source, Image.Image):
        return (np.asarray(source), _stated_no_data(source)) if _is_deep_grey(source) else None
    try:
        if (floats := _float_tiff(source if isinstance(source, bytes) else Path(source))) is not None:
            return floats
        with open_image(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as image:
            if _is_deep_colour(image):
                content = source if isinstance(source, bytes) else Path(source).read_bytes()
                return _deep_colour_array(content)[..., :3], None
            return (np.asarray(image), _stated_no_data(image)) if _is_deep_grey(image) else None
    except Exception:  # broken files fail in many ways
        return None


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _stated_no_data(image: Image.Image) -> float | None:
    return _no_data_in(getattr(image, "tag_v2", {}))  # only TIFF has tags


def _no_data_in(tags: Mapping[int, Any]) -> float | None:
    try:
        return float(tags[_NO_DATA_TAG])
    except (KeyError, TypeError, ValueError):
        return None


def _float_tiff(
    source: bytes | Path, name: str = "", max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, float | None] | None:
    """Float32 [H, W], or RGB [H, W, 3], of a TIFF of floats, and its "no data"; None for files that Pillow reads."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        if (head := file.read(8))[:4] not in _TIFF:
            return None
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        if 3 not in tags.get(_SAMPLE_FORMAT, ()) or tags.get(_SAMPLE_BITS) == (32,):
            return None
        _check_size(tags[256], tags[257], name, max_pixels)
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype.kind != "f":
        cure = "save it as float32 with one band, or with 8 or 16 bits"
        raise ValueError(f"{name} is a TIFF of floats of a kind that cannot be read; {cure}")
    with np.errstate(over="ignore"):
        return (values if values.ndim == 2 else values[..., 2::-1]).astype(np.float32), _no_data_in(tags)


def _decode(content: bytes, name: str, max_pixels: int, value_range: ValueRange | None, upright: bool) -> np.ndarray:
    try:
        if (floats := _float_tiff(content, name, max_pixels)) is not None:
            shown = _stretch(floats[0], name, value_range, floats[1])
            return _grey_to_rgb(shown) if shown.ndim == 2 else shown
        image = open_image(io.BytesIO(content), name, max_pixels)
    except UnidentifiedImageError as error:
        hint = " (for HEIC: pip install pillow-heif)" if name.lower().endswith((".heic", ".heif")) else ""
        raise ValueError(f"{name} is not a picture that can be read; try JPEG or PNG{hint}") from error
    except ValueError:
        raise
    except Exception as error:  # a broken header fails in many ways
        raise ValueError(f"{name} is damaged and cannot be read ({error})") from error
    with image:
        try:
            if _is_deep_colour(image):
                return _from_deep_array(_deep_colour_array(content), name, value_range)
            return _from_pil(image, name, value_range, upright)
        except Exception as error:
            raise ValueError(f"{name} is damaged and cannot be read ({error})") from error


def _is_deep_colour(image: Image.Image) -> bool:
    """True for colour files of 16 bits per channel, of which Pillow would keep the upper 8."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in getattr(image, "tile", []))


def _deep_colour_array(content: bytes) -> np.ndarray:
    """uint16 [H, W, 3 or 4], alpha last; made of one array, because a copy of a large one takes much memory."""
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise OSError("its 16-bit colours cannot be decoded")
    for rows in _strips(decoded):
        decoded[rows, :, :3] = decoded[rows, :, 2::-1].copy()  # OpenCV begins with blue
    return decoded


def _from_deep_array(array: np.ndarray, name: str, value_range: ValueRange | None) -> np.ndarray:
    """uint16 [H, W, 3 or 4] -> uint8 RGB; colours by the range of their values, alpha by that of its type."""
    colours = _stretch(array[..., :3], name, value_range)
    return colours if array.shape[2] == 3 else on_white(colours, (array[..., 3] // 257).astype(np.uint8))


def _from_pil(image: Image.Image, name: str, value_range: ValueRange | None, upright: bool) -> np.ndarray:
    no_data = _stated_no_data(image)
    if upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if _is_deep_grey(image):
        return _grey_to_rgb(_stretch(np.asarray(image), name, value_range, no_data))
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


def _from_array(array: np.ndarray, max_pixels: int, value_range: ValueRange | None) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"a picture array must be [H, W], [H, W, 3] or [H, W, 4], got shape {list(array.shape)}")
    _check_size(array.shape[1], array.shape[0], "the given array", max_pixels)
    if array.dtype == np.uint16 and array.ndim == 3:
        return _from_deep_array(array, "the given array", value_range)
    if array.dtype == np.uint16:
        array = _stretch(array, "the given array", value_range)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError("a float picture must have values in 0..1; divide by 255 or convert to uint8")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"a picture array must be uint8, uint16, bool or float in 0..1, got {array.dtype}")
    if array.ndim == 2:
        return _grey_to_rgb(array)
    return on_white(array[..., :3], array[..., 3]) if array.shape[2] == 4 else np.ascontiguousarray(array)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"{name} has no pixels ({width}x{height})")
    if width * height > max_pixels:
        limit = f"the limit of {max_pixels / 1e6:.0f} million"
        raise ValueError(f"{name} has {width}x{height} pixels, more than {limit}; make it smaller")


def _stretch(values: np.ndarray, name: str, value_range: ValueRange | None, no_data: float | None = None) -> np.ndarray:
    """Map the smallest measured value to 0 and the largest to 255; a constant picture becomes black."""
    if value_range is None:
        value_range = range_of((values[rows] for rows in _strips(values)), values.size, no_data)
        if value_range.note:
            warnings.warn(f"{name}: {value_range.note}", stacklevel=2)
    stretched = np.empty(values.shape, np.uint8)
    for rows in _strips(values):
        stretched[rows] = value_range.stretched(values[rows])
    return stretched


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


@dataclass(frozen=True)
class ValueRange:
    """What becomes black and what white."""

    low: float
    high: float
    no_data: tuple[float, ...] = ()  # values that mean nothing, and are shown black
    note: str | None = None  # what was left out, for people

    def stretched(self, values: np.ndarray) -> np.ndarray:
        """uint8 of the same shape; NaN and what means nothing is black."""
        numbers = values.astype(np.float64)
        numbers[np.isnan(numbers)] = self.low
        for nothing in self.no_data:
            numbers[values == nothing] = self.low
        shares = (np.clip(numbers, self.low, self.high) - self.low) / max(self.high - self.low, 1e-12)
        return np.rint(shares * 255).astype(np.uint8)


def range_of(parts: Iterable[np.ndarray], count: int, stated_no_data: float | None = None) -> ValueRange:
    """The range of a picture's values, or of a clip's.

    Args:
        parts: its values, in parts of any shape.
        count: of all values together, roughly.
        stated_no_data: what the file says means "no data".
    """
    low, high, unreal, samples = np.inf, -np.inf, 0, []
    step = max(1, count // _SAMPLED)
    for part in parts:
        values = part.astype(np.float64).ravel()
        usable = values[np.isfinite(values)]
        unreal += len(values) - len(usable)
        usable = usable[usable != stated_no_data] if stated_no_data is not None else usable
        if len(usable):
            low, high = min(low, usable.min()), max(high, usable.max())
            samples.append(usable[::step])
    if not samples:
        return ValueRange(0.0, 0.0, note="none of its values is a finite number")
    left_out = [f"{unreal} values that are no finite numbers"] if unreal else []
    found, sample = _no_data_of(np.sort(np.concatenate(samples)), low, high)
    left_out += [f"{value:g}, which seems to mean no data" for value in found]
    low, high = (sample[0] if low in found else low), (sample[-1] if high in found else high)
    cut = min(math.ceil(len(sample) * _OUTLIERS), (len(sample) - 1) // 2)
    inner_low, inner_high = sample[cut], sample[-1 - cut]
    if inner_high > inner_low and high - low > _TAKES_CONTRAST * (inner_high - inner_low):
        left_out.append(f"a few outliers (values go from {low:g} to {high:g})")
        low, high = inner_low, inner_high
    no_data = found if stated_no_data is None else (stated_no_data, *found)
    note = f"its contrast is that of the values {low:g} to {high:g}, without {' and '.join(left_out)}"
    return ValueRange(float(low), float(high), no_data, note if left_out else None)


def _no_data_of(sample: np.ndarray, low: float, high: float) -> tuple[tuple[float, ...], np.ndarray]:
    """Numbers at the ends that mean "no data", as they occur often and far from all others; and the sorted rest."""
    found: list[float] = []
    for end in (low, high, low):  # the lower one may be seen only without the upper one
        others = sample[sample != end]
        if not len(others) or len(sample) - len(others) < max(2, _NO_DATA_SHARE * len(sample)):
            continue
        inner = np.quantile(others, (_OUTLIERS, 1 - _OUTLIERS))
        gap = others[0] - end if end == low else end - others[-1]
        if inner[1] > inner[0] and gap > _NO_DATA_GAP * (inner[1] - inner[0]):
            found.append(float(end))
            sample = others
    return tuple(found), sample
