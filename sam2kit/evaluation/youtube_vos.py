"""YouTube-VOS asks how well a model tracks what it has never been trained on: the figure G.

After mask_folders.py or a protocol has made rows with the scoring YOUTUBE_VOS of vos.py.

Surprise: which categories are unseen is not in the data set's meta.json; its server keeps that list, so it is given
here as a file.

Source: YouTube-VOS, arXiv:1809.03327, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from sam2kit.evaluation.rows import ObjectRow
from sam2kit.files import read_json

Categories = Mapping[tuple[str, str], str]  # (video, object) -> category


def youtube_vos_g(rows: Iterable[ObjectRow], categories: Categories, unseen: Collection[str]) -> dict[str, float]:
    """The mean of J and F over objects of seen and of unseen categories.

    Args:
        rows: with measures "J" and "F", 0..1; the last part of a sample's name is its video.
        categories: of all objects; see `read_meta`.
        unseen: the categories that do not occur in training.
    Returns:
        "G", the mean of the four others, and "J_seen", "J_unseen", "F_seen", "F_unseen", 0..1.
    Raises:
        ValueError: if an object has no category, a category does not occur, or there is no seen or no unseen object.
    """
    unknown = sorted(set(unseen) - set(categories.values()))
    if unknown:
        raise ValueError(f"no object has category {unknown[0]!r}; there are {_some(set(categories.values()))}")
    scores: dict[str, list[float]] = {f"{m}_{kind}": [] for m in ("J", "F") for kind in ("seen", "unseen")}
    for row in rows:
        key = PurePosixPath(row.sample).name, row.object_id
        if key not in categories:
            raise ValueError(f"meta.json has no category for object {row.object_id} of video {key[0]}")
        for measure in ("J", "F"):
            scores[f"{measure}_{'unseen' if categories[key] in unseen else 'seen'}"].append(row.scores[measure])
    for name, values in scores.items():
        if not values:
            raise ValueError(f"G needs objects of seen and of unseen categories, but none is {name.split('_')[1]}")
    parts = {name: float(np.mean(values)) for name, values in scores.items()}
    return {"G": float(np.mean(list(parts.values()))), **parts}


def read_meta(meta: Path) -> dict[tuple[str, str], str]:
    """(video, object) -> category, from the data set's meta.json (videos -> objects -> category).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file.
    """
    try:
        videos = read_json(meta)["videos"]
        return {(v, o): about["category"] for v in videos for o, about in videos[v]["objects"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{meta} is not a meta.json of YouTube-VOS (videos -> objects -> category)") from error


def read_categories(path: Path) -> set[str]:
    """Names of categories from a file: a JSON list, or one name in each line.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it names nothing.
    """
    text = path.read_text()
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{path} should hold names of categories, a JSON list or one in each line")
    return set(names)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
