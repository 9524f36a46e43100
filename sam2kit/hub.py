"""Which source means the Hugging Face Hub, and getting a weight file from there, or saying clearly why not.

Everything goes through huggingface-hub, so its cache, tokens, mirrors (HF_ENDPOINT) and offline switch
(HF_HUB_OFFLINE) work. One quick question goes ahead of each download: left alone, huggingface-hub retries
for about 25 seconds before it says that there is no network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in an __all__

from sam2kit.config import PRESETS

TRANSFORMERS_FILE = "model.safetensors"
FINETUNED_WEIGHTS = "finetuned.safetensors"  # what a fine-tuning changed; only of use with the other file
FINETUNED_JSON = "finetuned.json"
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_LICENCES = {
    "facebook/sam2": "apache-2.0",
    "facebook/EdgeTAM": "apache-2.0",
    "yonigozlan/": "apache-2.0",
    "yunyangx/efficient-track-anything": "apache-2.0",
    "wanglab/MedSAM2": "cc-by-sa-4.0",
}
_NAMED_FILE = re.compile(r"([\w.-]+/[\w.-]+):([^:]+)")  # owner/repo:file.pt
_ANSWER_WITHIN = 5.0  # seconds for the question whether a file is there


class HubError(RuntimeError):
    """A weight file could not be had from the Hub; the message says why and what to do."""


class _Unreachable(Exception):
    """The Hub did not answer, or answered with a server error."""


class HubSource(NamedTuple):
    """A repo on the Hub, and one of its files where it may hold several."""

    repo_id: str
    filename: str | None = None

    def __str__(self) -> str:
        return self.repo_id if self.filename is None else f"{self.repo_id}:{self.filename}"


def hub_source(name: str) -> HubSource | None:
    """What a source means on the Hub; None for nano and for paths. A file that is there comes first."""
    if name in PRESETS:
        return None if name == "nano" else _published(name)
    named = _NAMED_FILE.fullmatch(name)
    if named is not None and not os.path.exists(name):
        return HubSource(*named.groups())
    return HubSource(name) if name.count("/") == 1 and not is_path(name) else None


def licence(name: str) -> str | None:
    """The licence of a preset or of a repo that is known here, as its publisher declares it."""
    source = hub_source(name)
    known = (licence for begin, licence in _LICENCES.items() if source and source.repo_id.startswith(begin))
    return "apache-2.0" if name == "nano" else next(known, None)


def _published(preset: str) -> HubSource:
    family, _, variant = preset.partition("-")
    if family == "edgetam":
        return HubSource("facebook/EdgeTAM", "edgetam.pt")
    if family == "efficienttam":
        filename = f"efficienttam_{variant.replace('-512', '-512x512').replace('-', '_')}.pt"
        return HubSource("yunyangx/efficient-track-anything", filename)
    return HubSource(f"facebook/{preset}")


def is_path(name: str) -> bool:
    """Whether a source means a file or folder: it looks like one, or there is one."""
    path = Path(os.path.expanduser(name))
    return os.path.exists(path) or path.suffix in WEIGHT_SUFFIXES or name.startswith((".", "/", "~"))


def download_weights(source: HubSource) -> Path:
    """Path of a repo's weight file in the local cache, downloaded if needed.

    Takes the file that the source names; else `model.safetensors` if the repo has it, else `finetuned.safetensors` with
    its JSON file beside it, else the only .safetensors file, else the only .pt file.

    Raises:
        HubError: if the Hub cannot be reached, refuses, or has no such file - and the cache does not help.
    """
    repo_id = source.repo_id
    try:
        validate_repo_id(repo_id)
        filename = _find_filename(source)
        path = Path(hf_hub_download(repo_id, filename))
        if filename == FINETUNED_WEIGHTS:
            hf_hub_download(repo_id, FINETUNED_JSON, revision=path.parent.name)  # of the same commit
        return path
    except _Unreachable as error:
        cached = cached_weights(source)
        if cached is None:
            raise HubError(
                f"cannot get {source}: {error}, and it is not in the local cache; connect and try again, give the "
                "path of a downloaded file, or use the bundled model: nano"
            ) from error
        return cached
    except GatedRepoError as error:
        raise HubError(
            f"{repo_id} asks you to accept its terms: do so on its Hub page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"the Hub has no repo {repo_id!r}, or it is private; check the name, or log in with `hf auth login`"
        ) from error
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no Hub id; it should look like facebook/sam2.1-hiera-tiny") from error
    except HubError:
        raise
    except Exception as error:  # the HTTP client's own errors, a full disk
        raise HubError(
            f"the download of {repo_id} broke off ({_short(error)}); nothing half-finished is used - try again"
        ) from error


def _find_filename(source: HubSource) -> str:
    repo_id, wanted = source.repo_id, source.filename or TRANSFORMERS_FILE
    try:
        get_hf_file_metadata(hf_hub_url(repo_id, wanted), timeout=_ANSWER_WITHIN)
        return wanted
    except (GatedRepoError, RepositoryNotFoundError):
        raise
    except EntryNotFoundError as error:
        if source.filename is not None:
            raise HubError(f"{repo_id} has no file {wanted!r}; look on its Hub page for the right name") from error
    except OfflineModeIsEnabled as error:
        raise _Unreachable("the offline switch HF_HUB_OFFLINE is on") from error
    except HfHubHTTPError as error:
        raise _Unreachable(f"the Hub answered with an error: {_short(error)}") from error
    except Exception as error:  # the HTTP client's own errors: no route, no name, refused, timed out
        raise _Unreachable(f"the Hub cannot be reached: {_short(error)}") from error
    try:
        files = HfApi().list_repo_files(repo_id)
    except Exception as error:
        raise _Unreachable(f"the Hub does not list its files: {_short(error)}") from error
    return _choose_file(repo_id, files)


def _choose_file(repo_id: str, files: list[str]) -> str:
    if TRANSFORMERS_FILE in files:
        return TRANSFORMERS_FILE
    if FINETUNED_WEIGHTS in files and FINETUNED_JSON in files:
        return FINETUNED_WEIGHTS
    whole = [f for f in files if f != FINETUNED_WEIGHTS]
    candidates = [f for f in whole if f.endswith(".safetensors")] or [f for f in whole if f.endswith((".pt", ".pth"))]
    if len(candidates) != 1:
        raise HubError(
            f"{repo_id} has {len(candidates)} weight files where one was expected"
            + (f"; name one of them, such as {repo_id}:{candidates[0]}" if candidates else "")
        )
    return candidates[0]


def cached_weights(source: HubSource) -> Path | None:
    """The weight file that an earlier download left in the cache; None if there is none."""
    try:
        folder = Path(snapshot_download(source.repo_id, local_files_only=True))
        if source.filename is not None:
            return folder / source.filename if (folder / source.filename).is_file() else None
        files = [str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()]
        return folder / _choose_file(source.repo_id, files)
    except (LocalEntryNotFoundError, HFValidationError, HubError):
        return None


@contextmanager
def uploading(repo_id: str) -> Iterator[None]:
    """Say in one sentence, as a HubError, why the Hub cannot be reached or refuses an upload."""
    try:
        yield
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no Hub id; it should look like you/leaves") from error
    except ValueError:
        raise
    except HfHubHTTPError as error:
        refused = getattr(error.response, "status_code", None) in (401, 403)
        cure = "log in with `hf auth login`, with a token that may write there" if refused else "try again"
        raise HubError(f"the Hub did not take {repo_id} ({_short(error)}); {cure}") from error
    except Exception as error:  # no token, the HTTP client's own errors
        raise HubError(f"the upload to {repo_id} broke off ({_short(error)}); log in, connect and try again") from error


def _short(error: BaseException) -> str:
    """The first line of an error, without the request ids that follow."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
