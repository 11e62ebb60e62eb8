"""Options of a manager, each with its default, unit and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.cache.states import ReflectorSettings
from runtime.control.controller import ControllerOptions
from runtime.election.options import ElectionOptions
from runtime.transport.session import TransportSettings


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How a manager works.

    Attributes:
        metrics_bind: Address of `/metrics`: `:8080`, `127.0.0.1:0`, or `0` for none.
        probe_bind: Address of `/healthz` and `/readyz`; same form.
        namespaces: Namespaces to watch; None for all, which needs a ClusterRoleBinding.
        election: Leader election; None when there is one replica and no rollout overlap.
        graceful_timeout: Seconds for everything to finish after a stop was asked for. 0 does not wait, None waits for
            ever. Keep it below the pod's terminationGracePeriodSeconds.
        sync_timeout: Seconds for the caches to fill.
        user_agent: Sent with each request; shown by audit logs.
        field_manager: Default owner of fields in server-side apply.
        controller: Defaults of all controllers.
        controllers: By controller name, in place of these defaults: the choice of whoever runs the process, which wins
            over what the controller's own code asks for.
        transport: Limits of the connections.
        reflector: How caches follow the server: back-off, when silence counts as death, durations, page size.
        read_your_writes: Let caches show an own write before the watch does (default); off for measuring.
    """

    metrics_bind: str = "0"
    probe_bind: str = "0"
    namespaces: tuple[str, ...] | None = None
    election: ElectionOptions | None = None
    graceful_timeout: float | None = 30.0
    sync_timeout: float = 120.0
    user_agent: str = "runtime"
    field_manager: str = "runtime"
    controller: ControllerOptions = field(default_factory=ControllerOptions)
    controllers: Mapping[str, ControllerOptions] = field(default_factory=dict)
    transport: TransportSettings = field(default_factory=TransportSettings)
    reflector: ReflectorSettings = field(default_factory=ReflectorSettings)
    read_your_writes: bool = True
