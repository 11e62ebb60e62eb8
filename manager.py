"""Composition root of the operator: flags, clients, manager, controllers, start. Nothing else."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from controllers.options import DIALECTS, OperatorOptions, read_options
from runtime import ControllerOptions, ElectionOptions, Manager, ManagerOptions
from runtime.control.scope import add_scope
from runtime.manager.faults import UserError, explain
from runtime.manager.groups import Group
from runtime.manager.heap import FrozenHeap, growing_heap
from runtime.manager.loop import OperatorLoop
from runtime.manager.preflight import check_access, serves_group
from runtime.manager.signals import handle_signals
from runtime.observe.logs import LEVELS, configure_logging
from runtime.observe.servers import parse_bind
from runtime.transport.config import Endpoint, load_endpoint

with growing_heap():
    from controllers import (
        mcpexternalauthconfig,
        mcpgroup,
        mcpremoteendpoint,
        mcpremoteproxy,
        mcpserverentry,
        virtualmcpserver,
    )

CONTROLLERS = {
    each.NAME: each.setup
    for each in (
        mcpgroup,
        mcpserverentry,
        mcpexternalauthconfig,
        mcpremoteendpoint,
        mcpremoteproxy,
        virtualmcpserver,
    )
}
"""Name, as for `--concurrency`, -> what adds the controller to a manager."""

LEASE = "toolhive-operator-leader-election"
"""ToolHive's own, so that its operator and this one can never both lead in one namespace."""
NAME = "mcp-operator"
OPENSHIFT_GROUP = "security.openshift.io"
"""Of SecurityContextConstraints; whoever serves it gives pods their uids."""


def parser() -> argparse.ArgumentParser:
    """The flags. Names and defaults of the first four are controller-runtime's."""
    flags = argparse.ArgumentParser(
        prog="manager.py",
        description="Kubernetes operator for MCP servers and gateways.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument(
        "--metrics-bind-address", default=":8080", metavar="ADDR", help="address for /metrics; 0 disables it"
    )
    flags.add_argument(
        "--health-probe-bind-address", default=":8081", metavar="ADDR", help="address for /healthz and /readyz"
    )
    flags.add_argument("--leader-elect", action="store_true", help="reconcile only while holding the lease " + LEASE)
    flags.add_argument(
        "--kubeconfig", metavar="FILE", help="used instead of $KUBECONFIG, the pod's service account, ~/.kube/config"
    )
    flags.add_argument(
        "--leader-elect-lease-duration",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="how long other replicas wait before taking over",
    )
    flags.add_argument(
        "--leader-elect-renew-deadline",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="a leader stops writing after this long without renewing",
    )
    flags.add_argument(
        "--leader-elect-retry-period", type=float, default=2.0, metavar="SECONDS", help="pause between renewals"
    )
    flags.add_argument(
        "--vmcp-dialect",
        choices=DIALECTS,
        help="configuration dialect of gateways; derived from VMCP_IMAGE when not set",
    )
    flags.add_argument(
        "--restrict-pod-templates",
        action="store_true",
        help="refuse pod templates and service accounts that grant more than a gateway or a proxy needs",
    )
    flags.add_argument(
        "--concurrency",
        action="append",
        default=[],
        metavar="KIND=N",
        help=f"concurrent reconciles of one controller, repeatable: {', '.join(CONTROLLERS)}",
    )
    flags.add_argument(
        "--graceful-shutdown-timeout",
        type=float,
        default=25.0,
        metavar="SECONDS",
        help="time to finish running reconciles",
    )
    flags.add_argument("--log-level", choices=LEVELS, default="info", help="lowest level to log")
    flags.add_argument(
        "--log-format",
        choices=("auto", "json", "text"),
        default="auto",
        help="auto: text on a terminal, JSON elsewhere",
    )
    return flags


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the operator until a signal. Returns the exit code: 0 stopped, 1 failed, 2 wrong usage."""
    flags = parser().parse_args(arguments)
    json = None if flags.log_format == "auto" else flags.log_format == "json"
    configure_logging(flags.log_level, json=json, processors=[add_scope])
    try:
        options = replace(
            read_options(environ, flags.vmcp_dialect), restrict_pod_templates=flags.restrict_pod_templates
        )
        manager_options = _manager_options(flags, options)
    except ValueError as error:
        sys.stderr.write(f"manager.py: {error}\n")
        return 2
    try:
        with asyncio.Runner(loop_factory=OperatorLoop) as runner:
            runner.run(_run(flags.kubeconfig, manager_options, options))
    except BaseException as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.stderr.write(f"manager.py: {sentence}\n")
        return 1
    return 0


async def _run(kubeconfig: str | None, manager_options: ManagerOptions, options: OperatorOptions) -> None:
    connect: Callable[[], Awaitable[Endpoint]] = partial(load_endpoint, kubeconfig)
    manager = Manager(await connect(), manager_options, connect=connect)
    if options.openshift is None:
        options = replace(options, openshift=await serves_group(manager, OPENSHIFT_GROUP))
    with growing_heap():
        for setup in CONTROLLERS.values():
            setup(manager, options)
    heap = FrozenHeap()
    heap.freeze()
    manager.add(heap, Group.OTHERS)
    handle_signals(manager.stop)
    await check_access(manager)
    await manager.run()


def _manager_options(flags: argparse.Namespace, options: OperatorOptions) -> ManagerOptions:
    for address in (flags.metrics_bind_address, flags.health_probe_bind_address):
        parse_bind(address)
    election = None
    if flags.leader_elect:
        if not options.pod_namespace:
            raise UserError("--leader-elect needs POD_NAMESPACE, the namespace of the lease")
        election = ElectionOptions(
            LEASE,
            options.pod_namespace,
            lease_duration=flags.leader_elect_lease_duration,
            renew_deadline=flags.leader_elect_renew_deadline,
            retry_period=flags.leader_elect_retry_period,
        )
    return ManagerOptions(
        metrics_bind=flags.metrics_bind_address,
        probe_bind=flags.health_probe_bind_address,
        namespaces=options.watch_namespaces,
        election=election,
        controllers=_concurrency(flags.concurrency),
        graceful_timeout=flags.graceful_shutdown_timeout,
        user_agent=NAME,
        field_manager=NAME,
    )


def _concurrency(values: Sequence[str]) -> dict[str, ControllerOptions]:
    chosen = {}
    for value in values:
        kind, equals, number = value.partition("=")
        if (
            kind.lower() not in CONTROLLERS
            or not equals
            or not number.isascii()
            or not number.isdigit()
            or not int(number)
        ):
            raise UserError(
                f"--concurrency {value}: expected KIND=N with KIND one of {', '.join(CONTROLLERS)} and N >= 1"
            )
        chosen[kind.lower()] = ControllerOptions(concurrency=int(number))
    return chosen


if __name__ == "__main__":
    sys.exit(main())
