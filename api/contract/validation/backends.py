"""Static backends and the headers of requests towards them."""

from __future__ import annotations

import re

from api.contract.config import HeaderForward, StaticBackend, VmcpConfig
from api.contract.headers import header_problems, passthrough_problem
from api.contract.urls import has_http_url_shape
from api.contract.validation.report import Findings

TRANSPORTS = ("streamable-http", "sse")
BACKEND_TYPES = ("container", "proxy", "entry", "direct")
REMOTE_TYPES = ("entry", "direct")
"""Types of remote servers that the gateway reaches without a proxy of their own."""
_IDENTIFIER = re.compile(r"[A-Z0-9_]+")


def check_backends(config: VmcpConfig, report: Findings) -> None:
    """Check `backends` and `passthroughHeaders`."""
    names = (backend.name for backend in config.backends)
    report.unique("backends", names, "name", "backend name", costs=lambda index, _name: (index,))
    for index, backend in enumerate(config.backends):
        report.costs = (index,)
        _check_backend(backend, f"backends[{index}]", report)
    report.costs = None
    for index, name in enumerate(config.passthrough_headers):
        problem = passthrough_problem(name)
        if problem:
            report.add(f"passthroughHeaders[{index}]", problem)


def check_ca_path(path: str, where: str, report: Findings) -> None:
    """Check a path of certificates: absolute, without `..` and NUL."""
    if "\0" in path or ".." in path.split("/"):
        report.add(where, 'must not contain NUL or a step ".."')
    elif not path.startswith("/"):
        report.add(where, "must be an absolute path")


def _check_backend(backend: StaticBackend, where: str, report: Findings) -> None:
    report.require(f"{where}.name", backend.name)
    if report.require(f"{where}.url", backend.url) and not has_http_url_shape(backend.url):
        report.add(f"{where}.url", "must be an http:// or https:// URL with a host")
    report.one_of(f"{where}.transport", backend.transport, TRANSPORTS)
    report.one_of(f"{where}.type", backend.type, BACKEND_TYPES, optional=True)
    if backend.ca_bundle_path:
        if backend.type not in REMOTE_TYPES:
            report.add(f"{where}.caBundlePath", 'is only valid when type is "entry" or "direct"')
        check_ca_path(backend.ca_bundle_path, f"{where}.caBundlePath", report)
    if backend.header_forward is not None:
        _check_headers(backend.header_forward, f"{where}.headerForward", report)


def _check_headers(forward: HeaderForward, where: str, report: Findings) -> None:
    for problem in header_problems(forward.add_plaintext_headers, forward.add_headers_from_secret):
        key = "addHeadersFromSecret" if problem.secret else "addPlaintextHeaders"
        report.add(f"{where}.{key}.{problem.header}", problem.message)
    for name, identifier in forward.add_headers_from_secret.items():
        if not _IDENTIFIER.fullmatch(identifier):
            report.add(f"{where}.addHeadersFromSecret.{name}", "the identifier must consist of A-Z, 0-9 and _")
