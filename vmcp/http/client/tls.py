"""TLS contexts towards backends: system trust plus an optional bundle, TLS 1.2 at least, reloaded on change.

A context costs about 20 ms to make, so there is one for the system trust and one per bundle, remade only for new
content of the file.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path, PurePosixPath

from runtime.util.x509 import verify_flags
from vmcp.http.client.errors import ConnectError

_system: ssl.SSLContext | None = None
_LOOK_EVERY = 1.0


class BundlePathError(ValueError):
    """A path that must not be used as a CA bundle."""


def check_bundle_path(path: str) -> str:
    """Return `path` when it follows the rules of the configuration: absolute, no `..`, no NUL.

    Raises:
        BundlePathError: It does not.
    """
    if "\0" in path:
        raise BundlePathError("the CA bundle path holds a NUL character")
    pure = PurePosixPath(path)
    if not pure.is_absolute():
        raise BundlePathError(f"the CA bundle path {path!r} is not absolute")
    if ".." in pure.parts:
        raise BundlePathError(f"the CA bundle path {path!r} holds '..'")
    return path


def _new_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = verify_flags(context.verify_flags)
    context.set_alpn_protocols(["http/1.1"])
    return context


def system_context() -> ssl.SSLContext:
    """Return the shared context that trusts what the system trusts."""
    global _system  # noqa: PLW0603  one per process, made on first use
    if _system is None:
        _system = _new_context()
    return _system


class Trust:
    """The trust of one backend.

    Attributes:
        generation: Grows when the bundle's content changed; connections of an older one are not used again.
        problem: Why the newest content of the file could not be used, "" = it could. The older context stays meanwhile.
    """

    def __init__(self, bundle: str | None = None) -> None:
        """Take the bundle's path; the file is read on first use.

        Raises:
            BundlePathError: The path breaks the rules.
        """
        self._path = None if bundle is None else Path(check_bundle_path(bundle))
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._content: bytes | None = None
        self._looked = 0.0
        self.generation = 0
        self.problem = ""

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; looks at the file's stamp each time.

        Raises:
            ConnectError: There is no usable bundle, and there never was one.
        """
        if self._path is None:
            return system_context()
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                self._load(self._path.read_bytes())
                self._stamp = stamp
            self.problem = ""
        except (OSError, ssl.SSLError, ValueError) as err:
            self.problem = f"the CA bundle {self._path} cannot be used: {_reason(err)}"
        if self._context is None:
            raise ConnectError(self.problem)
        return self._context

    def refresh(self, now: float) -> None:
        """Look at the file again, at most once a second; `now` in seconds of any steady clock. Never raises."""
        if self._path is None or now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        with contextlib.suppress(ConnectError):
            self.context()

    def _load(self, content: bytes) -> None:
        if content == self._content:
            return
        if b"-----BEGIN CERTIFICATE-----" not in content:
            raise ValueError("it contains no PEM certificate")
        context = _new_context()
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
        self._context, self._content = context, content
        self.generation += 1


def _reason(err: Exception) -> str:
    if isinstance(err, OSError) and err.strerror and not isinstance(err, ssl.SSLError):
        return err.strerror
    return err.reason or "not PEM" if isinstance(err, ssl.SSLError) else str(err)
