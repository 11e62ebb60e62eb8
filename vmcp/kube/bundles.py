"""CA bundles from ConfigMaps as files, which is how connections read and re-read them.

A bundle that changes is replaced in place: whoever uses it notices by itself and keeps its sessions.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


class Bundles:
    """A private directory of certificates, removed by `close`. One content that many backends share is many files."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._written: dict[str, bytes] = {}

    def write(self, bundles: Mapping[str, bytes]) -> dict[str, str]:
        """Write what is new or has changed.

        Args:
            bundles: Path in the configuration -> content.

        Returns:
            Path in the configuration -> path of the file.

        Raises:
            OSError: The directory for temporary files cannot be written.
        """
        if bundles and self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="vmcp-ca-"))
        files = {path: self._file(path) for path in bundles}
        for path, content in bundles.items():
            if self._written.get(path) != content:
                target = Path(files[path])
                fresh = target.with_suffix(".new")
                fresh.write_bytes(content)
                fresh.replace(target)
                self._written[path] = content
        return files

    def keep(self, paths: Mapping[str, str]) -> None:
        """Remove the files of other paths; connections that use one keep what they have read."""
        for gone in self._written.keys() - paths.keys():
            del self._written[gone]
            with contextlib.suppress(OSError):
                Path(self._file(gone)).unlink()

    def close(self) -> None:
        """Remove everything."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _file(self, path: str) -> str:
        assert self._directory is not None
        return str(self._directory / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.pem")
