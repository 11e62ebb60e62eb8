"""What the watch tells of an apply is no news, also when it is faster than the answer; what others did is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, VMCP
from controllers.shared.workload.apply import Applier
from runtime import Record, Resource, ServerError
from runtime.wire.decode import record_from_body

OWNER = record_from_body(
    VMCP,
    {
        "apiVersion": VMCP.api_version,
        "kind": VMCP.kind,
        "metadata": {"name": "v", "namespace": "ns", "uid": "o", "resourceVersion": "1"},
    },
)


def made(version: int, kind: Resource = CONFIG_MAP, **meta: Any) -> Record:
    metadata = {"name": "c", "namespace": "ns", "uid": "u", "resourceVersion": str(version), **meta}
    return record_from_body(kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata})


class Server:
    """Answers applies; `meanwhile` is what the watch tells before the answer."""

    def __init__(self, meanwhile: Callable[[], object], answer: Record | Exception) -> None:
        self.cache = SimpleNamespace(get=lambda *_: None)
        self.meanwhile, self.answer = meanwhile, answer

    async def apply(self, *_: Any, **__: Any) -> Record:
        self.meanwhile()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def apply(*told: Record, answer: Record | Exception, kind: Resource = CONFIG_MAP) -> tuple[Applier, list[bool]]:
    """Apply once, while the watch tells of `told`; return which of it counted as an echo."""
    echoes: list[bool] = []
    server = Server(lambda: echoes.extend(map(applier.left, told)), answer)
    applier = Applier(SimpleNamespace(client=server, transport=None))  # type: ignore[arg-type]
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "c", "namespace": "ns"}}
    await applier.apply(kind, body, OWNER)
    return applier, echoes


@pytest.mark.parametrize("first", [True, False], ids=["the watch is first", "the answer is first"])
async def test_an_apply_is_heard_of_without_news(first):
    applier, echoes = await apply(*([made(8)] if first else []), answer=made(8))
    assert all(echoes)
    assert applier.left(made(8))
    assert not applier.missed(OWNER.key)


async def test_what_others_did_in_that_moment_is_said_once():
    applier, echoes = await apply(made(8), made(9), answer=made(8))
    assert echoes == [True, True], "nobody knows yet whose they are"
    assert applier.missed(OWNER.key)
    assert not applier.missed(OWNER.key)
    assert not applier.left(made(9)), "and later on it is told at once"


async def test_what_was_told_before_an_apply_failed_is_said_too():
    server = Server(lambda: applier.left(made(9)), ServerError(500, "InternalError", "no"))
    applier = Applier(SimpleNamespace(client=server, transport=None))  # type: ignore[arg-type]
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}}
    with pytest.raises(ServerError):
        await applier.apply(CONFIG_MAP, body, OWNER)
    assert applier.missed(OWNER.key)
    assert not applier.left(made(9)), "nothing is under way any more"


async def test_the_status_of_a_deployment_is_news_whoever_wrote_it():
    _, echoes = await apply(
        made(8, DEPLOYMENT, generation=1), answer=made(8, DEPLOYMENT, generation=1), kind=DEPLOYMENT
    )
    assert echoes == [False]
