"""Asks before the start whether what will be watched is there and may be read.

Without this a missing CRD is a cache that never fills and a timeout two minutes later; here it is a sentence at once.
One cheap request per kind (a list of at most one object's metadata), all at the same time.
"""

from __future__ import annotations

import asyncio

import structlog

from runtime.manager.faults import UserError
from runtime.manager.manager import Manager
from runtime.wire.errors import ApiError, ForbiddenError, NotFoundError, TransportError, UnauthorizedError
from runtime.wire.gvk import Resource

log = structlog.get_logger("manager")

_TIMEOUT = 10.0
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


async def check_access(manager: Manager) -> None:
    """Look at every kind that is declared.

    Raises:
        UserError: The server cannot be reached or does not know us, or kinds are missing or may not be listed; of
            several namespaces, in none of them.
    """
    resources = [stats.resource for stats in manager.cache.stats()]
    namespaces = manager.options.namespaces
    asked = [(r, ns) for r in resources for ns in (namespaces if namespaces and r.namespaced else ("",))]
    try:
        answers = await asyncio.gather(*(_ask(manager, resource, namespace) for resource, namespace in asked))
    except (TransportError, UnauthorizedError) as error:
        await manager.transport.close()
        raise _unusable(manager, error) from error
    missing = sorted({str(r) for (r, _), error in zip(asked, answers, strict=True) if isinstance(error, NotFoundError)})
    refused: dict[str, list[str]] = {}
    for (_, namespace), answer in zip(asked, answers, strict=True):
        if isinstance(answer, ForbiddenError):
            refused.setdefault(namespace, []).append(answer.message)
    if not missing and "" not in refused and len(refused) < len(set(namespaces or ())):
        # As while it runs: what one tenant took away costs that tenant only, and only until it is given back.
        for namespace, messages in sorted(refused.items()):
            log.warning("namespace is left out until it can be read", namespace=namespace, missing=messages)
        manager.cache.leave_out(refused)
        return
    if not missing and not refused:
        return
    await manager.transport.close()
    if missing:
        raise UserError(f"the cluster does not know {', '.join(missing)}: install the CRDs first")
    sentences = [message for messages in refused.values() for message in messages]
    raise UserError(f"missing permissions ({len(sentences)}): {sentences[0]}")


async def serves_group(manager: Manager, group: str) -> bool:
    """Whether the cluster serves an API group: how a program tells one platform from another.

    Args:
        manager: for its connection.
        group: name of the group, such as `security.openshift.io`.

    Raises:
        UserError: The server cannot be reached, does not know us, or does not answer the question.
    """
    try:
        await manager.transport.request("GET", f"/apis/{group}", timeout=_TIMEOUT, retry=False)
    except (NotFoundError, ForbiddenError):
        return False  # without discovery no platform can be told; ordinary ones grant it to everybody
    except (ApiError, TransportError) as error:
        await manager.transport.close()
        raise _unusable(manager, error) from error
    return True


def _unusable(manager: Manager, error: ApiError | TransportError) -> UserError:
    endpoint = manager.transport.endpoint
    match error:
        case TransportError():
            return UserError(f"cannot reach the API server at {endpoint.url}: {error}")
        case UnauthorizedError():
            return UserError(f"the API server does not accept our credentials ({endpoint.source})")
        case _:
            return UserError(f"the API server at {endpoint.url} does not say what it serves: {error}")


async def _ask(manager: Manager, resource: Resource, namespace: str) -> ApiError | None:
    try:
        await manager.transport.request(
            "GET",
            resource.collection_path(namespace),
            query={"limit": "1"},
            accept=_METADATA,
            timeout=_TIMEOUT,
            retry=False,
        )
    except (NotFoundError, ForbiddenError) as error:
        return error
    except ApiError as error:
        if isinstance(error, UnauthorizedError):
            raise
        return None  # a server that is starting or busy: the caches are patient
    return None
