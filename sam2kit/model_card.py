"""The page that a fine-tuning has on the Hub: what it is, how good, how to load it, and what not to expect.

Everything on it is read from the folder, so the page cannot say what the files do not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from sam2kit.config import PRESETS
from sam2kit.finetuned import Changes, FineTuning, read_changes, read_finetuned
from sam2kit.hub import FINETUNED_WEIGHTS, hub_repo
from sam2kit.score_table import UNITS, score_table
from sam2kit.weight_files import MEMORY_PARTS

CARD_FILE = "README.md"
_OURS = "<!-- Written by sam2kit, anew before each upload. Without this line the page is yours and stays. -->"
_PARTS = {
    "image_encoder.": "image encoder",
    "sam_prompt_encoder.": "prompt encoder",
    "sam_mask_decoder.": "mask decoder",
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
    """The text of the page: the folder's own README.md if somebody has made it theirs, else a new one."""
    folder = Path(folder)
    about, changes = read_finetuned(folder), read_changes(folder)
    path = folder / CARD_FILE
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        if _OURS not in text:
            return text
    name = repo_id or folder.resolve().name
    sections = (
        f"# {name.rpartition('/')[2]}\n\n{_OURS}\n\n{_what(about, changes, folder)}",
        f"## Use\n\n```python\nfrom sam2kit import ImagePredictor, load_model\n\n"
        f'model = load_model("{repo_id or folder.name}")\npredictor = ImagePredictor(model)\n```'
        "\n\nThe base is loaded with it. `VideoPredictor`, the app and the `sam2kit` command take it in the same way; "
        "`sam2kit merge` makes one file of both, `sam2kit export` the official or the transformers format.",
        *_before_and_after(about),
        _training(about),
        f"## Limits\n\n{_limits(changes)}",
    )
    return f"---\n{_header(about, changes)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _header(about: FineTuning, changes: Changes) -> str:
    """The YAML that the Hub sorts models by."""
    base = hub_repo(about.base)
    data = ModelCardData(
        library_name="sam2kit",
        pipeline_tag="mask-generation",
        tags=["sam2", "segmentation", "fine-tuned", *(["lora"] if changes.low_rank else [])],
        base_model=base,
        base_model_relation=base and ("adapter" if changes.low_rank else "finetune"),
        license="apache-2.0" if about.base in PRESETS or (base or "").startswith("facebook/sam2") else None,
    )
    return data.to_yaml()


def _what(about: FineTuning, changes: Changes, folder: Path) -> str:
    recipe = f" by its `{about.recipe['name']}` recipe" if about.recipe.get("name") else ""
    data = f", on the data set *{about.data['name']}*" if about.data.get("name") else ""
    size = (folder / FINETUNED_WEIGHTS).stat().st_size / 1e6
    learned = [f"{len(changes.tensors)} weights of the {_parts_of(changes.tensors)}"] if changes.tensors else []
    if changes.low_rank:
        ranks = sorted({pair.down.shape[0] for pair in changes.low_rank.values()})
        learned.append(
            f"low-rank additions (LoRA, rank {', '.join(map(str, ranks))}) to {len(changes.low_rank)} layers of the "
            f"{_parts_of(changes.low_rank)}"
        )
    return (
        f"SAM 2 (`{about.base}`), fine-tuned with sam2kit{recipe}{data}. "
        f"`{FINETUNED_WEIGHTS}` ({size:.1f} MB) holds only what changed: {' and '.join(learned) or 'nothing'}."
    )


def _parts_of(names: Mapping[str, Any]) -> str:
    """The boxes of the network to which weights belong, in words."""
    found = [part for prefix, part in _PARTS.items() if any(name.startswith(prefix) for name in names)]
    return ", ".join(dict.fromkeys(found))


def _before_and_after(about: FineTuning) -> Iterator[str]:
    """A section of tables; nothing if nothing was measured."""
    tables = [f"{heading}{table}" for heading, table in _tables(about.metrics, "")]
    if tables:
        words = "The base, and what this made of it."
        if "intervals" in about.metrics:
            words = f"{about.data.get('held_out_words', '')} {UNITS} {' '.join(about.data.get('notes', []))}".strip()
        yield f"## Before and after\n\n{words}\n\n" + "\n\n".join(tables)


def _tables(metrics: Mapping[str, Any], heading: str) -> Iterator[tuple[str, str]]:
    before, after = metrics.get("before"), metrics.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping) and isinstance(metrics.get("intervals"), Mapping):
        yield heading, score_table(metrics)
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        rows = [
            f"| {name} | {_number(value)} | {_number(after[name])} |"
            for name, value in before.items()
            if isinstance(value, (int, float)) and isinstance(after.get(name), (int, float))
        ]
        if rows:
            yield heading, "\n".join(["| | before | after |", "| --- | --- | --- |", *rows])
        return
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _tables(value, f"### {name}\n\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _training(about: FineTuning) -> str:
    """Everything that is needed to do it again."""
    data = {name: value for name, value in about.data.items() if name not in ("seen", "notes", "held_out_words")}
    facts: dict[str, Any] = {"data": data, "recipe": about.recipe, "environment": about.environment}
    facts |= {"seed": about.seed, "time": about.time, "base_fingerprint": about.base_fingerprint}
    return f"## Training\n\n```json\n{json.dumps(facts, indent=2)}\n```"


def _limits(changes: Changes) -> str:
    lines = [
        "- It was taught, and measured, on one kind of data; on anything else it may be worse than its base.",
        "- It only works with the weights that it was trained from; any others are refused.",
    ]
    learned = [*changes.tensors, *changes.low_rank]
    if not any(name.startswith(MEMORY_PARTS) for name in learned):
        lines.append("- The memory is the base's: how objects are followed through videos was not trained.")
    if any(name.startswith("image_encoder.") for name in learned):
        lines.append("- The image encoder has changed, so everything that the model sees may look different to it.")
    return "\n".join(lines)
