"""Where sessions are kept, and what that means for several replicas."""

from __future__ import annotations

from api.common.traffic import SessionStorageConfig
from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import SessionStorage
from api.contract.identifiers import REDIS_PASSWORD_ENV
from controllers.options import DefaultRedis
from controllers.shared.parts.part import Part, secret_needs
from controllers.shared.verdicts import Verdict
from controllers.shared.workload.pod import Variable
from runtime import Condition


def resolve_sessions(
    own: SessionStorageConfig | None,
    given: SessionStorage | None,
    default: DefaultRedis | None,
    replicas: int | None,
) -> Part[SessionStorage | None]:
    """Say where sessions are kept.

    Args:
        own: the spec's word, which counts first.
        given: that of spec.config.
        default: the operator's Redis, for gateways that say nothing.
        replicas: of the gateway.
    """
    storage = _storage(own, given, default)
    password = _password(own, storage, default)

    def refused(what: str) -> Verdict:
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTH_INVALID, f"{what} of the session store not found")

    needs = secret_needs(((variable.secret, variable.key) for variable in password), refused)
    return Part(section=storage, checks=needs, variables=password, advice=(_advice(storage, replicas),))


def _storage(
    own: SessionStorageConfig | None, given: SessionStorage | None, default: DefaultRedis | None
) -> SessionStorage | None:
    if own is not None:
        if own.provider == "memory":
            return None
        return SessionStorage(provider="redis", address=own.address or "", db=own.db, key_prefix=own.key_prefix or "")
    if given is not None:
        return given if given.provider != "memory" else None
    return SessionStorage(provider="redis", address=default.address) if default is not None else None


def _password(
    own: SessionStorageConfig | None, storage: SessionStorage | None, default: DefaultRedis | None
) -> tuple[Variable, ...]:
    if storage is None or storage.provider != "redis":
        return ()
    if own is not None:
        ref = own.password_ref
        return (Variable(REDIS_PASSWORD_ENV, secret=ref.name, key=ref.key),) if ref is not None else ()
    if default is not None and default.secret_name and storage.address == default.address:
        return (Variable(REDIS_PASSWORD_ENV, secret=default.secret_name, key=default.secret_key),)
    return ()


def _advice(storage: SessionStorage | None, replicas: int | None) -> Condition:
    type_ = str(T.SESSION_STORAGE_WARNING)
    if replicas is None or replicas <= 1:
        reason = str(R.SESSION_STORAGE_NOT_APPLICABLE)
        return Condition(type_, "False", reason, "a single replica needs no shared session store")
    if storage is not None:
        return Condition(type_, "False", str(R.SESSION_STORAGE_CONFIGURED), "replicas share sessions through Redis")
    message = f"{replicas} replicas without sessionStorage.provider redis: a session lives in one pod only"
    return Condition(type_, "True", str(R.SESSION_STORAGE_MISSING), message)
