"""A CRD that is older than the operator costs a status what it does not know, and not the rest."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.shared.resources import GROUP
from controllers.shared.skew import RECHECK, InstalledSchema
from controllers.shared.verdicts import StatusWriter
from runtime import InvalidError, Record, ServerError
from runtime.wire.decode import decode_record
from runtime.wire.errors import StatusCause, StatusDetails

FIELDS = ("phase", "observedGeneration", "url", "entries", "nested", "conditions")
CONDITION = {"type": "Ready", "status": "True", "reason": "Fine", "message": "", "observedGeneration": 3}


class Server:
    """Keeps of a status what its CRD declares, as kube-apiserver does.

    Attributes:
        declared: fields, also those of nested objects and of the items of lists.
        phases: the enum of the phase, of which the first is the default.
        writes: how many were asked for.
    """

    def __init__(self, declared: set[str], phases: tuple[str, ...] = ("Pending", "Ready", "Failed")) -> None:
        self.declared, self.phases, self.writes, self.version, self.status = declared, phases, 0, 1, {}

    @property
    def record(self) -> Record:
        metadata = {"name": "g", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": str(self.version)}
        body = {"apiVersion": GROUP.api_version, "kind": GROUP.kind, "metadata": metadata, "status": self.status}
        return decode_record(GROUP, orjson.dumps(body))

    async def merge_patch(self, _resource: Any, _key: Any, patch: Any, **options: Any) -> Record:
        assert options["resource_version"] == str(self.version)
        self.writes += 1
        merged = self.status | self.prune(patch["status"])
        merged = {name: value for name, value in merged.items() if value is not None}
        if "phase" in self.declared and merged.setdefault("phase", self.phases[0]) not in self.phases:
            cause = StatusCause("FieldValueNotSupported", "unsupported", "status.phase")
            raise InvalidError(422, "Invalid", "invalid", details=StatusDetails(causes=(cause,)))
        self.version += merged != self.status
        self.status = merged
        return self.record

    def prune(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.prune(item) for name, item in value.items() if name in self.declared}
        return [self.prune(item) for item in value] if isinstance(value, list) else value

    @property
    def says(self) -> str:
        found = (c["message"] for c in self.status.get("conditions", ()) if c["type"] == "CRDOutdated")
        return next(found, "")


def wanted() -> dict[str, Any]:
    return {
        "phase": "Ready",
        "observedGeneration": 3,
        "url": None,
        "entries": [{"name": "a", "since": "b"}, {"name": "c"}],
        "nested": {"inner": {"deep": 1}},
        "conditions": [CONDITION],
    }


ALWAYS = {"type", "status", "reason", "message", "lastTransitionTime", "conditions"}
OPTIONAL = ("phase", "observedGeneration", "url", "entries", "name", "since", "nested", "inner", "deep")


@given(st.sets(st.sampled_from(OPTIONAL)))
async def test_all_that_is_declared_is_kept_and_the_rest_is_named(declared: set[str]) -> None:
    server = Server(declared | ALWAYS)
    writer = StatusWriter(server, GROUP)  # type: ignore[arg-type]
    await writer.write(server.record, wanted())
    kept = {name: server.prune(value) for name, value in wanted().items() if value is not None and name in declared}
    assert {name: server.status.get(name) for name in kept} == kept
    lost = (set(OPTIONAL) - {"url"} - declared) - ({"name", "since"} if "entries" not in declared else set())
    lost -= {"inner", "deep"} if "nested" not in declared else {"deep"} if "inner" not in declared else set()
    assert all(name in server.says for name in lost), (lost, server.says)
    assert bool(lost) == bool(server.says)
    writes = server.writes
    await writer.write(server.record, wanted())
    assert server.writes == writes, "nothing is written again and again that is not kept"
    assert not writer.differs(server.record, wanted())


async def test_a_phase_that_is_not_known_is_not_the_phase_of_before() -> None:
    server = Server({*ALWAYS, *FIELDS, *OPTIONAL}, phases=("Pending", "Ready"))
    writer = StatusWriter(server, GROUP)  # type: ignore[arg-type]
    await writer.write(server.record, wanted())
    await writer.write(server.record, wanted() | {"phase": "Failed"})
    assert (server.status["phase"], server.status["observedGeneration"]) == ("Pending", 3)
    assert "status.phase (Failed)" in server.says
    writes = server.writes
    await writer.write(server.record, wanted() | {"phase": "Failed"})
    assert server.writes == writes
    await writer.write(server.record, wanted())
    assert server.status["phase"] == "Ready", "other values are known"


async def test_crds_that_were_replaced_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    server = Server({*ALWAYS, "phase"}, phases=("Pending", "Ready"))
    writer = StatusWriter(server, GROUP)  # type: ignore[arg-type]
    writer.schema = InstalledSchema(GROUP, clock=lambda: now)
    failed = wanted() | {"phase": "Failed"}
    await writer.write(server.record, failed)
    now, writes, said = RECHECK, server.writes, server.status["conditions"]
    await writer.write(server.record, failed)
    assert server.writes > writes, "it is time to ask again"
    assert server.status["conditions"] == said
    server.declared |= {*FIELDS, *OPTIONAL}
    server.phases = ("Pending", "Ready", "Failed")
    await writer.write(server.record, failed)
    assert "observedGeneration" not in server.status, "not asked for every object"
    now = 2 * RECHECK
    await writer.write(server.record, failed)
    assert (server.status["phase"], server.status["observedGeneration"], server.says) == ("Failed", 3, "")
    assert not writer.schema.outdated


async def test_what_an_operator_of_before_said_of_the_crds_is_taken_back() -> None:
    server = Server({*ALWAYS, *FIELDS, *OPTIONAL})
    said = CONDITION | {"type": "CRDOutdated", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    server.status = {"phase": "Ready", "conditions": [said]}
    writer = StatusWriter(server, GROUP)  # type: ignore[arg-type]
    await writer.write(server.record, wanted() | {"conditions": [CONDITION, said]})
    assert server.status["conditions"] == [CONDITION]


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (".status.url: field not declared in schema", "url"),
        ('.status.conditions[type="Ready"].observedGeneration: field not declared in schema', "conditions.observed"),
        (
            "errors:\n  .status.nested.inner: field not declared in schema\n  .status.x: expected map, got 1",
            "nested.in",
        ),
        (".status.entries: expected list, got &{map[]}", "entries"),
    ],
)
def test_an_apply_that_failed_says_what_is_not_declared(message: str, path: str) -> None:
    schema, server = InstalledSchema(GROUP), Server(set())
    error = ServerError(500, "", f"failed to create typed patch object (n/g; v1beta1, Kind=MCPGroup): {message}")
    assert schema.refused(error, wanted())
    fitted = schema.fit(server.record, wanted())
    assert f"status.{path}" in fitted["conditions"][-1]["message"]
    assert not schema.refused(error, fitted), "the same again is no news"


@pytest.mark.parametrize(
    "error",
    [
        ServerError(500, "InternalError", "failed calling webhook"),
        InvalidError(422, "Invalid", "no"),
        InvalidError(
            422, "Invalid", "no", details=StatusDetails(causes=(StatusCause("FieldValueInvalid", "", "spec.url"),))
        ),
        InvalidError(
            422,
            "Invalid",
            "no",
            details=StatusDetails(causes=(StatusCause("FieldValueRequired", "", "status.conditions[0].reason"),)),
        ),
    ],
)
def test_other_failures_are_not_taken_for_older_crds(error: ServerError | InvalidError) -> None:
    schema = InstalledSchema(GROUP)
    assert not schema.refused(error, wanted())
    assert not schema.outdated


async def test_what_was_left_out_while_another_object_learned_better_is_written_after_all() -> None:
    server = Server({*ALWAYS, "phase"})
    writer = StatusWriter(server, GROUP)  # type: ignore[arg-type]
    await writer.write(server.record, wanted())
    server.status = {}
    prune = server.prune

    def learn(value: Any) -> Any:
        """The CRD is replaced, and another object's write tells so while this one is under way."""
        kept = prune(value)
        server.declared |= {*FIELDS, *OPTIONAL}
        server.prune = prune  # type: ignore[method-assign]
        writer.schema.answered(wanted(), wanted())
        return kept

    server.prune = learn  # type: ignore[method-assign]
    await writer.write(server.record, wanted())
    assert (server.status["observedGeneration"], server.says) == (3, "")


@pytest.mark.parametrize("mine", [CONDITION, {k: v for k, v in CONDITION.items() if k != "observedGeneration"}])
def test_conditions_of_others_say_nothing_about_the_crd(mine: dict[str, Any]) -> None:
    other = {"type": "Theirs", "status": "True", "reason": "Theirs", "message": ""}
    schema = InstalledSchema(GROUP)
    schema.answered({"conditions": [CONDITION]}, {"conditions": [other, mine]})
    assert schema.outdated is ("observedGeneration" not in mine)
