"""Every kind of picture, and everything that is none."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2kit.media.pictures import read_picture, shared_range


@pytest.fixture
def colours() -> np.ndarray:
    """Four quadrants: red, green / blue, white; 20 high and 30 wide."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10, :15, 0] = image[:10, 15:, 1] = image[10:, :15, 2] = 255
    image[10:, 15:] = 255
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_path_bytes_an_image_and_an_array_are_the_same(colours: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "ünï côde.png"
    Image.fromarray(colours).save(path)
    for source in (path, str(path), path.read_bytes(), Image.open(path), colours):
        got = read_picture(source)
        assert got.dtype == np.uint8
        assert np.array_equal(got, colours)


def test_exif_rotation_is_applied(colours: np.ndarray) -> None:
    content = encoded(Image.fromarray(colours), "PNG", exif=turned(6))
    assert np.array_equal(read_picture(content), np.rot90(colours, -1))
    assert np.array_equal(read_picture(content, upright=False), colours)


def test_transparency_is_laid_on_white() -> None:
    for mode in ("RGBA", "LA"):
        image = Image.new(mode, (4, 4))
        image.putalpha(0)
        assert (read_picture(encoded(image, "PNG")) == 255).all()
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert read_picture(encoded(image, "PNG", transparency=0)).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    fifth = Image.new("RGBA", (1, 1), (100, 0, 255, 51))
    assert read_picture(fifth).ravel().tolist() == [224, 204, 255]


def test_grey_and_cmyk_and_animation(colours: np.ndarray) -> None:
    got = read_picture(encoded(Image.fromarray(colours).convert("L"), "PNG"))
    assert (got[..., 0] == got[..., 2]).all()
    assert read_picture(encoded(Image.fromarray(colours).convert("CMYK"), "JPEG")).shape == (20, 30, 3)
    frames = [Image.new("RGB", (8, 6), c) for c in ("red", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_picture(animated)[0, 0].tolist() == [255, 0, 0]


def test_sixteen_bits_are_stretched_by_their_range(tmp_path: Path) -> None:
    values = np.linspace(1000, 3000, 64).astype(np.uint16).reshape(8, 8)
    for source in (values, encoded(Image.fromarray(values), "PNG"), encoded(Image.fromarray(values), "TIFF")):
        got = read_picture(source)[..., 0].ravel().astype(int)
        assert (got.min(), got.max()) == (0, 255) and (np.diff(got) >= 0).all()
    ramp = np.linspace(0, 4095, 60).astype(np.uint16).reshape(4, 5, 3)
    for kind in (".png", ".tiff"):
        cv2.imwrite(str(tmp_path / f"deep{kind}"), ramp[..., ::-1])
        got = read_picture(tmp_path / f"deep{kind}")
        assert np.abs(got.astype(int) - np.rint(ramp / 4095 * 255)).max() <= 1
    assert read_picture(ramp).max() == 255
    see_through = np.concatenate([ramp, np.zeros((4, 5, 1), np.uint16)], axis=2)
    assert (read_picture(see_through) == 255).all()


def land(rows: int = 0, value: float = 0) -> np.ndarray:
    """float32 [40, 60]: heights of 5000 to 5100, with some rows that mean nothing."""
    heights = np.linspace(5000, 5100, 2400, dtype=np.float32).reshape(40, 60).copy()
    heights[:rows] = value
    return heights


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (land(5, np.nan), "without 300 values that are no finite numbers"),
        (land(1, np.inf), "without 60 values that are no finite numbers"),
        (land(5, -9999), "without -9999, which seems to mean no data"),
        (np.vstack([land(3, -9999)[:3], land(5, 1e6)[3:]]), r"without 1e.06, which .* and -9999, which seems to mean"),
        (land(5, -3.4e38), "without -3.4e.38, which seems to mean no data"),
        (np.where(np.arange(2400).reshape(40, 60) == 7, 1e6, land()), "without a few outliers .values go from 5000 to"),
    ],
)
def test_what_means_nothing_does_not_take_the_contrast(values: np.ndarray, said: str, tmp_path: Path) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "land.tif")
    with pytest.warns(UserWarning, match=rf"land\.tif: its contrast is that of the values .*{said}"):
        shown = read_picture(tmp_path / "land.tif")
    assert (shown[6:].min(), shown[6:].max()) == (shown[6:, 0].min(), 255)
    assert shown[6:].min() < 45
    assert (np.diff(shown[6:, :, 0].ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bands", [1, 3])
def test_floats_that_pillow_does_not_read(bands: int, kind: type, tmp_path: Path) -> None:
    values = np.stack([land(), land(2, 5000), land()][:bands], axis=2).astype(kind)
    cv2.imwrite(str(tmp_path / "a.tif"), values.squeeze()[..., ::-1] if bands == 3 else values)
    shown = read_picture(tmp_path / "a.tif").astype(int)
    wanted = np.broadcast_to((values - 5000) * 2.55, shown.shape)
    assert np.abs(shown - wanted).max() <= 1
    assert shared_range([tmp_path / "a.tif"]).high == pytest.approx(5100)
    with pytest.raises(ValueError, match=r"a\.tif has 60x40 pixels, more than"):
        read_picture(tmp_path / "a.tif", max_pixels=1000)


def test_nodata_that_a_tiff_states(tmp_path: Path) -> None:
    values = np.linspace(100, 200, 2400).astype(np.uint16).reshape(40, 60)
    values[:10] = 0
    Image.fromarray(values).save(tmp_path / "land.tif", tiffinfo={42113: "0"})
    shown = read_picture(tmp_path / "land.tif")
    assert not shown[:10].any()
    assert (shown[10:].min(), shown[10:].max()) == (0, 255)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [
        land(20, 4990),
        np.where(land() > 5050, 0, 65535),
        np.random.default_rng(0).normal(3000, 400, (40, 60)),
        np.full((40, 60), 7),
    ],
)
def test_ordinary_values_keep_their_whole_range(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    shown = read_picture(tmp_path / "a.tif")[..., 0]
    low, high = values.astype(np.float32).min(), values.astype(np.float32).max()
    assert np.abs(shown - (values - low) / max(high - low, 1e-12) * 255).max() <= 1


@pytest.mark.parametrize(
    "kind", ["RGB", "RGBA", "LA", "P", "P with a hole", "I;16", "F", "turned", "deep", "deep alpha", "array"]
)
def test_read_in_strips_it_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pictures are worked on in strips, for want of memory; 16 bits keep the range of the whole."""
    noise = np.random.default_rng(0).integers(0, 2**16, (23, 17, 4), np.uint16)
    image = Image.fromarray((noise >> 8).astype(np.uint8))
    source: object
    if kind.startswith("deep"):
        _, packed = cv2.imencode(".png", noise if kind == "deep alpha" else np.ascontiguousarray(noise[..., :3]))
        source = packed.tobytes()
    elif kind == "array":
        source = noise
    elif kind in ("I;16", "F"):
        source = Image.fromarray(noise[..., 0].astype(np.uint16 if kind == "I;16" else np.float32))
    elif kind == "turned":
        source = encoded(image.convert("RGB"), "PNG", exif=turned(8))
    else:
        source = image.convert(kind[:1] if kind.startswith("P") else kind)
        if kind == "P with a hole":
            source.info["transparency"] = 3
    whole = read_picture(source)
    assert len(np.unique(whole)) > 1
    monkeypatch.setattr("sam2kit.media.pictures._STRIP", 40)
    assert np.array_equal(read_picture(source), whole)


def test_arrays() -> None:
    assert read_picture(np.ones((3, 4), bool)).tolist() == [[[255] * 3] * 4] * 3
    assert read_picture(np.full((3, 4, 1), 0.5)).max() == 128
    assert (read_picture(np.zeros((3, 4, 4), np.uint8)) == 255).all()


def test_heic(colours: np.ndarray, tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(colours).resize((60, 40))).save(tmp_path / "phone.heic")
    assert read_picture(tmp_path / "phone.heic").shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 4, 5), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.full((3, 4), np.nan), r"0\.\.1"),
        (np.zeros((3, 4), np.int64), "int64"),
        (b"not a picture", "cannot be read|not a picture"),
        (42, "must be a path"),
    ],
)
def test_no_picture(source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_picture(source)


def test_files_that_are_no_picture(tmp_path: Path, colours: np.ndarray) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg"):
        read_picture(tmp_path / "nothing.jpg")
    with pytest.raises(ValueError, match="is a folder"):
        read_picture(tmp_path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8))
    for name, content, said in (
        ("text.jpg", b"hello", "is not a picture"),
        ("phone.heic", b"hello", ".*pillow-heif"),
        ("cut.png", encoded(noise, "PNG")[:9000], "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} {said}"):
            read_picture(tmp_path / name)
    with pytest.raises(ValueError, match="30x20 pixels, more than the limit"):
        read_picture(encoded(Image.fromarray(colours), "PNG"), max_pixels=500)


@pytest.mark.slow
def test_without_pillow_heif_everything_else_works(colours: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png")
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from sam2kit.media.pictures import read_picture\n"
        f"print(read_picture({str(tmp_path / 'a.png')!r}).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(20, 30, 3)"
