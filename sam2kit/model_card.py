"""The page that a fine-tuning has on the Hub: what it is, how good, how to load it, and what not to expect.

Everything on it is read from the folder, so the page cannot say what the files do not. The table before and after is
the same on the terminal, in notebooks and on the page. It is made of the metrics that finetuned.json keeps:

    {"before": {measure: mean}, "after": {measure: mean},
     "intervals": {measure: {"before": [low, high], "after": [low, high], "change": [low, high], "objects": count}},
     "found": {"detector AP50": value, ...}}  if it finds objects by itself, see evaluation/found_objects.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from sam2kit.checkpoints import MEMORY_PARTS
from sam2kit.finetuned import Changes, FineTuning, read_changes, read_finetuned
from sam2kit.hub import FINETUNED_WEIGHTS, hub_source, licence

CARD_FILE = "README.md"
COUNTS = ("objects",)  # measures that are no shares
JUDGED = ("click1", "click3", "click5", "box", "mask J&F", "click J&F", "box J&F")  # what the score is the mean of
_WORDS = {
    "score": "mean of the next rows, but missed",
    "click1": "mIoU after 1 click",
    "click3": "mIoU after 3 clicks",
    "click5": "mIoU after 5 clicks",
    "box": "mIoU from a tight box",
    "missed": "taken for absent; less is better",
    "mask J&F": "tracked from a true mask",
    "click J&F": "tracked from 1 click",
    "box J&F": "tracked from a tight box",
    "scenes click1": "forgetting check: mIoU, other scenes",
    "clips mask J&F": "forgetting check: other clips",
}
UNITS = "In percent; in brackets the 95 % confidence interval (bootstrap over the objects)."
_OURS = "<!-- Written by sam2kit, anew before each upload. Without this line the page is yours and stays. -->"
_PARTS = {
    "image_encoder.": "image encoder",
    "sam_prompt_encoder.": "prompt encoder",
    "sam_mask_decoder.": "mask decoder",
    "detection_head.": "detection head",
    **dict.fromkeys(MEMORY_PARTS, "memory"),
}


def write_model_card(folder: str | os.PathLike[str], repo_id: str | None = None) -> Path:
    """Write README.md beside a fine-tuning, with the header that the Hub reads; a page of your own is left alone.

    Args:
        folder: as `save_finetuned` wrote it.
        repo_id: Hub id under which it can be loaded; None names the folder instead.
    Raises:
        ValueError: if the folder holds no fine-tuning.
    """
    path = Path(folder) / CARD_FILE
    path.write_text(model_card(folder, repo_id), encoding="utf-8")
    return path


def model_card(folder: str | os.PathLike[str], repo_id: str | None = None) -> str:
    """The text of the page: the folder's own README.md if it was edited, else a new one."""
    folder = Path(folder)
    about, changes = read_finetuned(folder), read_changes(folder)
    path = folder / CARD_FILE
    if path.is_file() and _OURS not in (text := path.read_text(encoding="utf-8")):
        return text
    name = repo_id or folder.resolve().name
    data = {key: value for key, value in about.data.items() if key not in ("seen", "notes", "held_out_words")}
    again: dict[str, Any] = {"data": data, "recipe": about.recipe, "environment": about.environment}
    again |= {"seed": about.seed, "time": about.time, "base_fingerprint": about.base_fingerprint}
    sections = (
        f"# {name.rpartition('/')[2]}\n\n{_OURS}\n\n{_what(about, changes, folder)}",
        f"## Use\n\n```python\nfrom sam2kit import ImagePredictor, load_model\n\n"
        f'model = load_model("{repo_id or folder.name}")\npredictor = ImagePredictor(model)\n```'
        "\n\nThe base is loaded with it. `VideoPredictor`, the app and the `sam2kit` command take it in the same way; "
        "`sam2kit merge` makes one file of both, `sam2kit export` the official or the transformers format.",
        *_before_and_after(about),
        f"## Training\n\n```json\n{json.dumps(again, indent=2)}\n```",
        f"## Limits\n\n{_limits([*changes.tensors, *changes.low_rank])}",
    )
    return f"---\n{_header(about, changes)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _header(about: FineTuning, changes: Changes) -> str:
    """The YAML that the Hub sorts models by."""
    source = hub_source(about.base)
    base = source and source.repo_id
    data = ModelCardData(
        library_name="sam2kit",
        pipeline_tag="mask-generation",
        tags=["sam2", "segmentation", "fine-tuned", *(["lora"] if changes.low_rank else [])],
        base_model=base,
        base_model_relation=base and ("adapter" if changes.low_rank else "finetune"),
        license=licence(about.base),
    )
    return data.to_yaml()


def _what(about: FineTuning, changes: Changes, folder: Path) -> str:
    recipe = f" by its `{about.recipe['name']}` recipe" if about.recipe.get("name") else ""
    data = f", on the data set *{about.data['name']}*" if about.data.get("name") else ""
    size = (folder / FINETUNED_WEIGHTS).stat().st_size / 1e6
    changed = [f"{len(changes.tensors)} weights of the {_parts_of(changes.tensors)}"] if changes.tensors else []
    if changes.low_rank:
        ranks = sorted({pair.down.shape[0] for pair in changes.low_rank.values()})
        changed.append(
            f"low-rank additions (LoRA, rank {', '.join(map(str, ranks))}) to {len(changes.low_rank)} layers of the "
            f"{_parts_of(changes.low_rank)}"
        )
    return (
        f"SAM 2 (`{about.base}`), fine-tuned with sam2kit{recipe}{data}. "
        f"`{FINETUNED_WEIGHTS}` ({size:.1f} MB) holds only what changed: {' and '.join(changed) or 'nothing'}."
    )


def _parts_of(names: Iterable[str]) -> str:
    """The boxes of the network to which weights belong, in words."""
    return ", ".join(dict.fromkeys(part for prefix, part in _PARTS.items() if any(n.startswith(prefix) for n in names)))


def _before_and_after(about: FineTuning) -> list[str]:
    """A section with the table; nothing if nothing was measured."""
    before, after, intervals = (about.metrics.get(key) for key in ("before", "after", "intervals"))
    if not before or not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return []
    if isinstance(intervals, Mapping):
        words = f"{about.data.get('held_out_words', '')} {UNITS} {' '.join(about.data.get('notes', []))}".strip()
        found = found_words(about.metrics.get("found", {}))
        return [f"## Before and after\n\n{words}\n\n{score_table(about.metrics)}\n\n{found}".rstrip()]
    both = {name: (value, after[name]) for name, value in before.items() if name in after}
    rows = [f"| {name} | {value} | {later} |" for name, (value, later) in both.items()]  # perhaps no shares
    return ["\n".join(["## Before and after\n", "| measure | base | fine-tuned |", "| --- | --- | --- |", *rows])]


def found_words(found: Mapping[str, float]) -> str:
    """What a model finds without a prompt, in a sentence; nothing if it was not measured."""
    if not found:
        return ""
    named = [
        f"{name.removeprefix('detector ')} {100 * value:.1f}" for name, value in found.items() if name != "pictures"
    ]
    return f"Without a click, on {found['pictures']:.0f} held-out pictures: {', '.join(named)} (in percent)."


def _limits(names: list[str]) -> str:
    lines = [
        "- It was trained, and evaluated, on one kind of data; on anything else it may be worse than its base.",
        "- It only works with the weights that it was trained from; any others are refused.",
    ]
    if not any(name.startswith(MEMORY_PARTS) for name in names):
        lines.append("- The memory is the base's: how objects are followed through videos was not trained.")
    if any(name.startswith("image_encoder.") for name in names):
        lines.append("- The image encoder has changed, so everything that the model sees may look different to it.")
    return "\n".join(lines)


def score_table(metrics: Mapping[str, Any], *, aligned: bool = False) -> str:
    """A Markdown table of all measures that both have, in percent.

    Args:
        metrics: as above; without intervals, the columns of these stay away.
        aligned: make all cells of a column equally wide, for a terminal.
    """
    before, after, intervals = metrics["before"], metrics.get("after", {}), metrics.get("intervals", {})
    rows = [["measure", "base", "fine-tuned", "change", "objects", "meaning"]]
    for name, value in before.items():
        if name in COUNTS or not isinstance(value, (int, float)) or not isinstance(after.get(name), (int, float)):
            continue
        known = intervals.get(name, {})
        values = {"before": value, "after": after[name], "change": after[name] - value}
        cells = [_cell(value, known.get(key), signed=key == "change") for key, value in values.items()]
        rows.append([name, *cells, str(known.get("objects", "")), _WORDS.get(name, "")])
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) if aligned else 3 for column in columns]
    columns = [(first, "-" * width, *rest) for (first, *rest), width in zip(columns, widths, strict=True)]
    padded = [[cell.ljust(width if aligned else 0) for cell in c] for c, width in zip(columns, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*padded, strict=True))


def _cell(value: float, interval: list[float] | None, *, signed: bool) -> str:
    sign, between = ("+", " to ") if signed else ("", "-")
    if interval is None:
        return f"{100 * value:{sign}.1f}"
    low, high = (f"{100 * end:{sign}.1f}" for end in interval)
    return f"{100 * value:{sign}.1f} ({low}{between}{high})"
