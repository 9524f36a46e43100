"""A visitor's own folder for files, made when it is first needed and deleted with the work."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory


class OwnFolder:
    """A temporary folder."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="sam2kit-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def delete(self) -> None:
        """Delete it and all that is in it; there is a new one if it is needed again."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
