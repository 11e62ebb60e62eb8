"""A small operator on the runtime, run as its own process by tests that stop, kill and block it.

For every Widget it keeps a ConfigMap of the same name with the Widget's generation. `spec.seconds` makes the reconcile
that slow. SIGUSR1 blocks the main loop, as a reconcile that computes for ever would.

    python -m tests.support.widget_operator --kubeconfig F [--lease NAME --namespace NS --times LEASE,RENEW,RETRY]
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from functools import partial
from typing import Any

import structlog

from runtime import Builder, ControllerOptions, ElectionOptions, Key, Manager, ManagerOptions, Resource, Result
from runtime.control.scope import add_scope
from runtime.manager.faults import explain
from runtime.manager.signals import handle_signals
from runtime.observe.logs import configure_logging
from runtime.transport.config import load_endpoint
from runtime.util.owner import set_controller_reference

log = structlog.get_logger("widgets")

WIDGET = Resource("test.example.com", "v1", "Widget", "widgets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._recorder = manager.recorder("widget-controller")

    async def reconcile(self, request: Key) -> Result | None:
        widget = self._client.cache.get(WIDGET, request)
        if widget is None or widget.meta.deleting:
            return None
        log.debug("working")
        await asyncio.sleep(widget.path("spec.seconds") or 0)
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": request.name, "namespace": request.namespace},
            "data": {"generation": str(widget.meta.generation)},
        }
        set_controller_reference(widget, body, CONFIG_MAP)
        present = self._client.cache.get(CONFIG_MAP, request)
        if present is None:
            await self._client.create(CONFIG_MAP, body)
            self._recorder.event(widget, type="Normal", reason="Made", action="Create", note="made the ConfigMap")
        elif present.path("data.generation") != body["data"]["generation"]:
            patch = {"data": body["data"]}
            await self._client.merge_patch(CONFIG_MAP, request, patch, resource_version=present.meta.resource_version)
        if widget.path("status.seen") != widget.meta.generation:
            await self._client.merge_patch(
                WIDGET, request, {"status": {"seen": widget.meta.generation}}, subresource="status"
            )
        return None


async def run(arguments: argparse.Namespace) -> None:
    connect = partial(load_endpoint, arguments.kubeconfig)
    election = None
    if arguments.lease:
        lease, renew, retry = (float(seconds) for seconds in arguments.times.split(","))
        election = ElectionOptions(
            arguments.lease, arguments.namespace, lease_duration=lease, renew_deadline=renew, retry_period=retry
        )
    manager = Manager(
        await connect(),
        ManagerOptions(
            namespaces=(arguments.namespace,),
            election=election,
            probe_bind=arguments.probe,
            metrics_bind=arguments.metrics,
            user_agent="widget-operator",
            field_manager="widget-operator",
            graceful_timeout=arguments.grace,
            controller=ControllerOptions(concurrency=4),
        ),
        connect=connect,
    )
    manager.informer(WIDGET)
    manager.informer(CONFIG_MAP)
    Builder(manager, "widget").for_(WIDGET).owns(CONFIG_MAP).complete(Reconciler(manager))
    handle_signals(manager.stop)
    await manager.run()


def block(*_: object) -> None:
    """Keep the main thread, and with it the loop, busy for a minute."""
    sys.stderr.write('{"msg":"main loop blocked by the test"}\n')
    sys.stderr.flush()
    time.sleep(60)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--lease", default="")
    parser.add_argument("--times", default="15,10,2")
    parser.add_argument("--probe", default="0")
    parser.add_argument("--metrics", default="0")
    parser.add_argument("--grace", type=float, default=10.0)
    arguments = parser.parse_args()
    configure_logging("debug", json=True, processors=[add_scope])
    signal.signal(signal.SIGUSR1, block)
    try:
        asyncio.run(run(arguments))
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.stderr.write(f"{sentence}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
