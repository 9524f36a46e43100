"""The parts of gpu_check.sh that need Python: `python -m tests.gpu_check smoke|correct|profile`. Prints what it sees.

It runs on bare machines, so it needs no pytest, and each step fails alone. On a CPU everything is smaller.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam2kit.model.attention import narrow_values_are_quicker
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import SpeedOptions
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model
from tests.bench.compare import machine, write_weights
from tests.bench.contenders import grid, moving, picture, spots
from tests.bench.worker import finish

DEVICE = os.environ.get("SAM2KIT_CHECK_DEVICE", "cuda")
MODEL = os.environ.get("SAM2KIT_CHECK_MODEL", "sam2.1-hiera-tiny")
ON_GPU = DEVICE != "cpu"
SIDE = None if ON_GPU else 64
FULL = 18  # frames after which the memory bank is full
STEADY = 20 if ON_GPU else 2  # frames that are looked at then
AHEAD = 33  # frames of a clip beyond them
KERNELS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
LOOSER = 10 if ON_GPU else 1  # times the limits of the golden vectors, which hold for a CPU
BFLOAT16 = {"embedding": 0.03, "clicks": 0.06, "pixels of clicks": 0.04, "pixels of frames": 0.06}

failed: list[str] = []


@contextmanager
def step(name: str) -> Iterator[None]:
    """A step that fails alone; says how long it took."""
    print(f"\n== {name}")
    began = time.perf_counter()
    try:
        yield
        finish(DEVICE)
    except Exception:
        failed.append(name)
        traceback.print_exc(file=sys.stdout)
    print(f"-- {time.perf_counter() - began:.2f} s")


def header() -> None:
    """Machine and versions."""
    print(platform.platform(), ", ".join(f"{k} {v}" for k, v in machine().items()), sep="\n")
    if ON_GPU:
        about = torch.cuda.get_device_properties(0)
        print(f"capability {about.major}.{about.minor}, cuDNN {torch.backends.cudnn.version()}")
        subprocess.run(["nvidia-smi"], check=False)


def made_up(name: str, dtype: str = "auto") -> SAM2:
    """A model with made-up weights on the device."""
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder), name, SIDE)
        return load_model(Path(folder) / "model.safetensors", DEVICE, dtype)


def tracking(model: SAM2, objects: int, frames: int, speed: SpeedOptions | None = None) -> Iterator[FrameMasks]:
    """Frames of a 720p clip, the first of which is prompted."""
    predictor = VideoPredictor(model, speed=speed)
    session = predictor.open(moving(frames))
    for number, place in enumerate(spots(objects)):
        predictor.add_points(session, 0, number, place[None])
    return predictor.propagate(session, direction="forward")


def steady(model: SAM2, speed: SpeedOptions | None = None, objects: int = 1) -> Iterator[FrameMasks]:
    """The same, when the memory bank is full and the pipeline runs."""
    tracked = tracking(model, objects, FULL + 3 * STEADY + AHEAD, speed)
    for _ in range(FULL):
        _ = next(tracked).masks
    finish(DEVICE)
    return tracked


def smoke() -> None:
    """Everything once."""
    header()
    for name in dict.fromkeys(["nano", MODEL]):
        try_model(name)
    with step("attention, which kernel is right and how quick"):
        attention_table()
        if ON_GPU:
            narrow = narrow_values_are_quicker(torch.device(DEVICE, 0), torch.bfloat16)
            print("taken for recalling: values", 64 if narrow else 256, "wide")


def try_model(name: str) -> None:
    """Pictures, clips, a recorded frame and waits of one model."""
    with step(f"{name}: loading"):
        model = made_up(name)
        print(f"computes in {model.compute_dtype}, weights in {model.weight_dtype}, on {model.device}")
    with step(f"{name}: encode, 64 clicks, automatic"):
        predictor = ImagePredictor(model)
        embedding = predictor.encode(picture())
        found = predictor.predict(embedding, Prompt(grid()[:, None]))
        say("image embedding", embedding.image)
        say("logits of 64 clicks", found.raw)
        options = AutomaticOptions(points_per_side=32 if ON_GPU else 2, min_predicted_iou=0.0, min_stability=0.0)
        print(len(AutomaticMasks(model, options).generate(picture())), "masks found")
    with step(f"{name}: 10 objects over 30 frames"):
        frames = list(tracking(model, 10, 30 if ON_GPU else 3))
        assert {f.masks.shape for f in frames} == {(10, 720, 1280)}, "all objects have a mask on every frame"
        say("logits of the last frame", frames[-1].low_res)
    for way, speed in (
        ("recorded", SpeedOptions(cuda_graphs=True)),
        ("without kept keys", SpeedOptions(memory_keys=False)),
    ):
        with step(f"{name}: {way} against plain"):
            for other, plain in zip(tracking(model, 2, FULL + 3, speed), tracking(model, 2, FULL + 3), strict=True):
                far = (other.low_res - plain.low_res).abs().max().item()
                differing = np.mean(other.masks != plain.masks)
                print(f"frame {plain.frame_index}: logits {far:.2e} apart, {differing:.2%} of the pixels differ")
                assert differing < 0.02, "each frame is the plain one, but for rounding"
    if ON_GPU:
        for way, speed in (("plain", None), ("fast", SpeedOptions.fastest())):
            with step(f"{name}: waits of the host on {STEADY} steady frames, {way}"):
                for place, times in waits(model, speed).most_common():
                    print(f"{times:5d}  {place}")
    with step(f"{name}: attention kernels of a steady frame"):
        tracked = steady(model)
        with torch.profiler.profile() as seen:
            _ = next(tracked).masks
            finish(DEVICE)
        for event in seen.key_averages():
            if re.search("attention|flash|fmha|sdpa|cudnn", event.key, re.IGNORECASE):
                print(f"{event.count:5d}  {event.key[:150]}")


def say(what: str, values: Tensor) -> None:
    """Shape and range; fails if a number is none."""
    values = values.float()
    print(f"{what}: {list(values.shape)}, {values.min():.3f} to {values.max():.3f}")
    assert values.isfinite().all(), f"{what} are finite"


def waits(model: SAM2, speed: SpeedOptions | None) -> Counter[str]:
    """Where the host waited for the GPU."""
    tracked = steady(model, speed)
    with warnings.catch_warnings(record=True) as stated:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(STEADY):
                _ = next(tracked).masks
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(f"{Path(w.filename).name}:{w.lineno}" for w in stated if "synchroniz" in str(w.message))


def attention_table() -> None:
    """Each kernel on the shapes that matter, in bfloat16."""
    queries, keys, pixels = (4096, 28736, 4096) if ON_GPU else (64, 512, 64)
    cases = {  # heads and lengths of queries and keys, widths of keys and values, batches of queries and keys
        "recall, values 256 wide": (1, queries, keys, 256, 256, 1, 1),
        "recall, values 64 wide": (1, queries, keys, 256, 64, 1, 1),
        "recall, queries of 4 expanded": (1, queries, keys, 256, 256, 1, 4),
        "recall, 4 expanded, values 64": (1, queries, keys, 256, 64, 1, 4),
        "64 clicks, keys expanded": (8, 9, pixels, 16, 16, 64, 1),
        "64 clicks, queries expanded": (8, pixels, 9, 16, 16, 1, 64),
    }
    print(f"{'milliseconds (largest error)':32s}" + "".join(f"{name:>20s}" for name in (*KERNELS, "torch's choice")))
    for name, (heads, long, many, wide, narrow, *batches) in cases.items():
        torch.manual_seed(0)
        batch = max(batches)
        q, k, v = (
            torch.randn(b, heads, length, width, device=DEVICE).bfloat16()
            for b, length, width in ((batches[0], long, wide), (batches[1], many, wide), (batches[1], many, narrow))
        )
        query, key, value = (t.expand(batch, -1, -1, -1) for t in (q, k, v))
        right = torch.cat([exact(query[i : i + 1], key[i : i + 1], value[i : i + 1]) for i in range(batch)])
        reasons: list[str] = []
        cells = [one_kernel(query, key, value, right, kernel, reasons) for kernel in (*KERNELS.values(), None)]
        print(f"{name:32s}" + "".join(f"{cell:>20s}" for cell in cells))
        print(*dict.fromkeys(f"    {reason}" for reason in reasons), sep="\n", end="\n" if reasons else "")


def exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """In float32."""
    weights = query.float() @ key.float().transpose(-2, -1) * query.shape[-1] ** -0.5
    return weights.softmax(-1) @ value.float()


def one_kernel(
    query: Tensor, key: Tensor, value: Tensor, right: Tensor, kernel: SDPBackend | None, reasons: list[str]
) -> str:
    """Its time and error, or that it does not do it; `reasons` are added to."""
    few, many = (3, 10) if ON_GPU else (1, 1)

    def run(times: int) -> Tensor:
        for _ in range(times):
            answer = F.scaled_dot_product_attention(query, key, value)
        finish(DEVICE)
        return answer

    with warnings.catch_warnings(record=True) as stated, nullcontext() if kernel is None else sdpa_kernel(kernel):
        warnings.simplefilter("always")
        try:
            run(few)
            began = time.perf_counter()
            answer = run(many)
            taken = (time.perf_counter() - began) / many
        except Exception as error:  # which of them is what is to be found out
            said = [str(error), *(str(w.message) for w in stated)]
            reasons += [f"{kernel.name if kernel else ''}: {text.splitlines()[0][:160]}" for text in said]
            return "no"
    return f"{1000 * taken:.3f} ({(answer.float() - right).abs().max().item():.0e})"


def correct() -> None:
    """The official code's numbers in float32, and bfloat16 against float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    sys.modules.setdefault("pytest", mock.MagicMock())  # the functions of those tests need none
    from tests.golden_models import golden_model

    for name, check in (("pictures", golden_pictures), ("clips", golden_clips)):
        with step(f"tiny in float32 against the official code: {name}"):
            errors: dict[str, tuple[float, float]] = {}
            check(golden_model("tiny", "2.1").to(DEVICE), comparer(errors))
            for what, (error, limit) in errors.items():
                print(f"{error:.1e} of {limit:.0e}{'' if error <= limit else '  TOO MUCH'}  {what}")
            assert errors and all(e <= limit for e, limit in errors.values()), "all errors are within limits"
    with step("bfloat16 against float32"):
        golden = golden_model("tiny", "2.1").to(DEVICE) if ON_GPU else None  # which takes minutes on a CPU
        bfloat16_against_float32(golden or load_model("nano", DEVICE, "float32", side=256))


Compare = Callable[[str, object, np.ndarray, float], None]


def comparer(errors: dict[str, tuple[float, float]]) -> Compare:
    """Notes the largest errors instead of failing at the first."""

    def compare(name: str, got: object, wanted: np.ndarray, limit: float) -> None:
        values = got.detach().float().cpu().numpy() if isinstance(got, Tensor) else np.asarray(got)
        assert values.shape == wanted.shape, f"{name}: shape {values.shape}, wanted {wanted.shape}"
        error = float(np.abs(values.astype(np.float64) - wanted).max())
        errors[name] = max(error, errors.get(name, (0.0, 0.0))[0]), LOOSER * limit

    return compare


def golden_pictures(model: SAM2, compare: Compare) -> None:
    """The vectors of pictures."""
    from tests.model import test_image_golden as images

    predictor, seen = images.SAM2ImagePredictor(model), {}
    for part in ("trunk", "neck"):
        module = model.image_encoder.get_submodule(part)
        module.register_forward_hook(lambda _, given, out, part=part: seen.update({part: (given[0], out)}))
    golden = np.load(images.GOLDEN / "image-tiny-2.1.npz")
    with mock.patch.object(images, "compare", compare), torch.inference_mode():
        predictor.set_image(images.inputs.image())
        images._check_encoder(model, seen, golden, "pictures")
        images._check_prompts(model, predictor, golden, "pictures", stride=2)


def golden_clips(model: SAM2, compare: Compare) -> None:
    """The vectors of clips."""
    from tests.model import test_video_golden as clips

    class OnDevice(clips.Scenario):
        def _compare(self, prefix: str, what: str, got: Tensor | np.ndarray) -> None:
            super()._compare(prefix, what, got.float().cpu() if isinstance(got, Tensor) else got)

    scenarios = [(clips.clicks, 3)]
    scenarios += [(clips.mask, 8), (clips.multicond, 8), (clips.long, 20)] if ON_GPU else []
    with mock.patch.object(clips, "compare", compare):
        if ON_GPU:
            main = OnDevice(model, "video-tiny-2.1", "main", 8, OrderedDict())
            clips.first_steps(main)
            clips.later_steps(main)
        for play, frames in scenarios:
            play(OnDevice(model, "video-tiny-2.1", play.__name__, frames, OrderedDict()))


def bfloat16_against_float32(model: SAM2) -> None:
    """Relative errors, and shares of pixels that differ; in autocast, and with the weights in bfloat16, too."""
    exact_values = values_of(model)
    model.compute_dtype = torch.bfloat16
    ways = {"autocast": values_of(model), "weights in bfloat16": values_of(model.cast_weights(torch.bfloat16))}
    for way, values in ways.items():
        for name, limit in BFLOAT16.items():
            right, given = exact_values[name], values[name]
            if given.dtype == torch.bool:
                error = (given != right).float().mean().item()
            else:
                error = ((given - right).square().mean() / right.square().mean()).sqrt().item()
            print(f"{error:.4f} of {limit}  {name}, {way}")
            if not error <= limit:
                failed.append(f"{name}, {way}")


def values_of(model: SAM2) -> dict[str, Tensor]:
    """What a model makes of a picture, 64 clicks and two objects in a clip."""
    predictor = ImagePredictor(model)
    embedding = predictor.encode(picture())
    raw = predictor.predict(embedding, Prompt(grid()[:, None])).raw
    frames = [f.low_res > 0 for f in tracking(model, 2, 8 if ON_GPU else 2)]
    return {
        "embedding": embedding.image.float().cpu(),
        "clicks": raw.float().cpu(),
        "pixels of clicks": (raw > 0).cpu(),
        "pixels of frames": torch.stack([f.cpu() for f in frames]),
    }


def profile() -> None:
    """Where the time of steady frames goes."""
    header()
    model = made_up(MODEL)
    for way, speed in (("plain", None), ("fast", SpeedOptions.fastest())):
        with step(f"{STEADY} steady frames, {way}"):
            tracked = steady(model, speed)
            undisturbed = timed(tracked)
            with torch.profiler.profile() as seen:
                disturbed = timed(tracked)
            busy = busy_seconds(seen) / STEADY
            print(f"a frame takes {1000 * undisturbed:.2f} ms, with the profiler {1000 * disturbed:.2f} ms")
            print(f"the GPU works {1000 * busy:.2f} ms of it, so it idles {max(0.0, 1 - busy / undisturbed):.0%}")
            order = "self_device_time_total" if ON_GPU else "self_cpu_time_total"
            print(seen.key_averages().table(sort_by=order, row_limit=30, max_name_column_width=90))


def timed(tracked: Iterator[FrameMasks]) -> float:
    """Seconds of a frame."""
    began = time.perf_counter()
    for _ in range(STEADY):
        _ = next(tracked).masks
    finish(DEVICE)
    return (time.perf_counter() - began) / STEADY


def busy_seconds(seen: torch.profiler.profile) -> float:
    """Time in which the GPU did anything, on whatever stream."""
    spans = ((e.time_range.start, e.time_range.end) for e in seen.events() if "CUDA" in str(e.device_type))
    busy, until = 0.0, 0.0
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6


if __name__ == "__main__":
    {"smoke": smoke, "correct": correct, "profile": profile}[sys.argv[1]]()
    print(f"\n{len(failed)} failed: {', '.join(failed)}" if failed else "\nall went well")
    sys.exit(bool(failed))
