"""Random specs and random referenced objects, made from the schemas: every decision is sound, none is a traceback."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from api import v1beta1
from api.conditions.virtualmcpserver import VIRTUALMCPSERVER
from api.contract import Dialect, load_config
from controllers.shared.content import Facts
from controllers.shared.resources import ENDPOINT, ENTRY, PROXY, SERVER, VMCP
from controllers.shared.verdicts import Unreadable, read_model
from controllers.virtualmcpserver.decide import Observed, decide
from controllers.virtualmcpserver.members import read_member
from runtime.wire.decode import record_from_body
from tests.support.random_objects import ObjectGenerator
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import observed

KINDS: dict[str, Any] = {
    "auth_configs": v1beta1.MCPExternalAuthConfig,
    "tool_configs": v1beta1.MCPToolConfig,
    "composite_tools": v1beta1.VirtualMCPCompositeToolDefinition,
    "oidc_config": v1beta1.MCPOIDCConfig,
    "telemetry_config": v1beta1.MCPTelemetryConfig,
    "authz_config": v1beta1.MCPAuthzConfig,
}
MEMBERS = {kind.plural: kind for kind in (SERVER, PROXY, ENTRY, ENDPOINT)}
NAMES = ("present", "other")


class World:
    """Generators of everything that a decision looks at."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.gateways = ObjectGenerator("virtualmcpservers", seed)
        self.members = {kind: ObjectGenerator(plural, seed) for plural, kind in MEMBERS.items()}
        self.kinds = {field: ObjectGenerator(kind.definition.plural, seed) for field, kind in KINDS.items()}

    def reference(self, field: str, name: str) -> Any:
        body = self.kinds[field].generate() | {"metadata": {"name": name}}
        try:
            return KINDS[field].model_validate(body)
        except ValueError as error:
            return Unreadable(str(error))

    def _simplify(self, spec: dict[str, Any]) -> None:
        """Keep few optional parts: with all of them at once, one is always wrong."""
        for part in (spec, spec.get("config") or {}):
            for key in [key for key in part if key not in ("groupRef", "incomingAuth", "config", "outgoingAuth")]:
                if self.random.random() < 0.8:
                    del part[key]
        if self.random.random() < 0.7:
            spec["incomingAuth"] = {"type": "anonymous"}

    def observed(self, index: int) -> Observed | None:
        meta = {"name": "v", "namespace": "ns", "uid": "u", "generation": 1}
        body = self.gateways.generate()
        if index % 3:
            self._simplify(body["spec"])
        record = record_from_body(VMCP, body | {"metadata": meta})
        model = read_model(record, v1beta1.VirtualMCPServer)
        if isinstance(model, Unreadable):
            return None
        members = []
        for kind, generator in self.members.items():
            body = generator.generate()
            body |= {"metadata": {"name": f"m-{len(members)}", "namespace": "ns"}, "status": {"phase": "Valid"}}
            body["status"]["url"] = "http://member.ns.svc:8080/mcp"
            members.append(read_member(record_from_body(kind, body)))
        facts = Facts(frozenset({"present", "key", "k", "a", "ca.crt"}), frozenset({"present", "key", "ca.crt"}))
        fields: dict[str, Any] = {}
        for field in KINDS:
            several = field in ("auth_configs", "tool_configs", "composite_tools")
            found = {name: self.reference(field, name) for name in NAMES}
            fields[field] = found if several else found["present"]
        return observed(
            record,
            model.spec,
            dialect=(Dialect.NATIVE, Dialect.TOOLHIVE)[index % 2],
            members=tuple(members),
            secrets=dict.fromkeys(NAMES, facts),
            config_maps=dict.fromkeys(NAMES, facts),
            **fields,
        )


@pytest.mark.parametrize("part", range(2))
def test_random_specs_give_conditions_and_never_a_traceback(part: int, scale):
    world = World(scale.seed + part)
    published = 0
    for index in range(scale(25, 1000)):
        seen = world.observed(index)
        if seen is None:
            continue
        decision = decide(seen)
        assert decide(seen) == decision
        types = [condition.type for condition in decision.conditions]
        assert len(types) == len(set(types))
        assert all(VIRTUALMCPSERVER.rule(type_) for type_ in types)
        assert all(condition.message for condition in decision.conditions)
        if decision.intents.config_map is not None and "data" in decision.intents.config_map:
            published += 1
            load_config(decision.intents.config_map["data"]["config.yaml"], dialect=decision.dialect)
    assert published, "the generated specs never pass: the test shows nothing"
