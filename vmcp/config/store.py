"""Where replicas share sessions and limits, from the configuration and the environment."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from api.contract.config import VmcpConfig
from api.contract.identifiers import SESSION_HMAC_ENV
from api.contract.secrets import MAX_SECRET, secret_problem, secret_text
from api.contract.urls import read_host_port
from vmcp.config.options import (
    REDIS_CA_FILE_ENV,
    REDIS_CERT_FILE_ENV,
    REDIS_KEY_FILE_ENV,
    REDIS_PASSWORD_FILE_ENV,
    REDIS_TLS_ENV,
    REDIS_USERNAME_ENV,
)
from vmcp.sessions.settings import RedisSettings, RedisTls

Report = Callable[[str, str], None]
"""Takes what is wrong: the variable, and a sentence about it."""


def read_store(
    config: VmcpConfig, environ: Mapping[str, str], *, password: str, sealed: bool, report: Report
) -> RedisSettings | None:
    """Return where replicas share sessions; None where each keeps its own.

    Args:
        config: A valid configuration.
        environ: Of the process: what a pod template can add, since the API has no fields for it.
        password: Of the server; "" = none.
        sealed: Replicas have a secret in common.
        report: See there.
    """
    storage = config.session_storage
    if storage is None or storage.provider != "redis":
        return None
    try:
        host, port = read_host_port(storage.address)
    except ValueError:
        return None  # the contract's checks have told of it
    if not sealed:
        report(SESSION_HMAC_ENV, "is required with sessionStorage: replicas seal sessions with one secret")
    username = environ.get(REDIS_USERNAME_ENV, "").strip()
    password_file = environ.get(REDIS_PASSWORD_FILE_ENV, "").strip()
    if password_file:
        _check_password(password_file, report)
    elif username and not password:
        report(REDIS_USERNAME_ENV, "needs a password: sessionStorage.passwordRef, or " + REDIS_PASSWORD_FILE_ENV)
    return RedisSettings(
        host=host,
        port=port,
        db=storage.db,
        prefix=storage.key_prefix or f"vmcp:{config.name}:",
        username=username,
        password=password,
        password_file=password_file,
        tls=_read_tls(environ, report),
    )


def _check_password(path: str, report: Report) -> None:
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
            problem = secret_problem(secret_text(file.read(MAX_SECRET + 2)))
    except OSError as error:
        problem = f"cannot be read: {error.strerror or type(error).__name__}"
    if problem:
        report(REDIS_PASSWORD_FILE_ENV, f"the file {problem}")


def _read_tls(environ: Mapping[str, str], report: Report) -> RedisTls | None:
    switch = environ.get(REDIS_TLS_ENV, "").strip()
    if switch not in ("", "true", "false"):
        report(REDIS_TLS_ENV, f'"{switch[:32]}" is neither "true" nor "false"')
    names = (REDIS_CA_FILE_ENV, REDIS_CERT_FILE_ENV, REDIS_KEY_FILE_ENV)
    ca_file, cert_file, key_file = (environ.get(name, "").strip() for name in names)
    if switch == "false" and (ca_file or cert_file or key_file):
        report(REDIS_TLS_ENV, "is false, although files for TLS are named")
    if key_file and not cert_file:
        report(REDIS_KEY_FILE_ENV, f"needs {REDIS_CERT_FILE_ENV}")
        return None
    if not ca_file and not cert_file:
        return RedisTls() if switch == "true" else None
    _check_file(REDIS_CA_FILE_ENV, ca_file, report, lambda: ssl.create_default_context(cafile=ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _check_file(REDIS_CERT_FILE_ENV, cert_file, report, lambda: context.load_cert_chain(cert_file, key_file or None))
    return RedisTls(ca_file=ca_file, cert_file=cert_file, key_file=key_file)


def _check_file(variable: str, path: str, report: Report, load: Callable[[], object]) -> None:
    if not path:
        return
    try:
        load()
    except ssl.SSLError:
        report(variable, "the file does not hold what it should, in PEM")
    except OSError as error:
        report(variable, f"the file cannot be read: {error.strerror or type(error).__name__}")
