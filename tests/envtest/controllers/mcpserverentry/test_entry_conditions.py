"""Each condition of an MCPServerEntry appears when its cause does, and goes when it is mended."""

from __future__ import annotations

import time

import pytest

from tests.envtest.controllers.kit import Cluster, certificate, conditions_of, encoded, header, wait_for_the_next_second
from tests.envtest.controllers.lifecycles import shows

KIND = "MCPServerEntry"


async def test_an_entry_with_a_ready_group_is_valid_after_one_status_write(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry()
    found = await cluster.until(
        KIND,
        "e",
        phase="Valid",
        Valid="True/ConfigValid",
        Ready="True/EntryReady",
        Stalled="",
        RemoteURLValidated="True/RemoteURLValid",
        GroupRefValidated="True/GroupRefIsValid",
        ExternalAuthConfigValidated="True/AuthConfigNotConfigured",
        CABundleRefValidated="True/CABundleRefNotConfigured",
        HeaderSecretRefsValidated="",
        HeadersValidated="",
    )
    assert found["status"]["observedGeneration"] == 1
    assert conditions_of(found)["Valid"][1] == "All referenced resources are valid"
    assert await cluster.status_writes_at_rest("mcpserverentries") == ["e"]


async def test_a_group_that_comes_right_after_its_entry_costs_no_second_write(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry's patience is made long here, so that only the group's own event can end the wait in time."""
    monkeypatch.setattr("controllers.shared.remote.GRACE", 60.0)
    await cluster.entry()
    await cluster.group()
    await cluster.until(KIND, "e", phase="Valid")
    assert await cluster.status_writes_at_rest("mcpserverentries") == ["e"]


@shows(
    KIND,
    "Valid=False/ConfigInvalid",
    "Ready=False/RemoteURLInvalid",
    "Stalled=True/RemoteURLInvalid",
    "RemoteURLValidated=False/RemoteURLInvalid",
)
async def test_a_blocked_url_fails_the_entry_until_it_is_mended(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry(remoteUrl="http://169.254.169.254/latest")
    await cluster.until(
        KIND, "e", phase="Failed", RemoteURLValidated="False/RemoteURLInvalid", Valid="False/ConfigInvalid"
    )
    await cluster.patch(KIND, "e", {"spec": {"remoteUrl": "https://mcp.example.com"}})
    mended = await cluster.until(KIND, "e", phase="Valid", RemoteURLValidated="True/RemoteURLValid")
    assert mended["status"]["observedGeneration"] == 2


@shows(KIND, "RemoteURLValidated=False/RemoteURLInvalid")
async def test_a_private_url_needs_the_permission(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry(remoteUrl="http://10.1.2.3/mcp")
    await cluster.until(KIND, "e", phase="Failed", RemoteURLValidated="False/RemoteURLInvalid")
    await cluster.patch(KIND, "e", {"spec": {"allowPrivateEndpoint": True}})
    await cluster.until(KIND, "e", phase="Valid", RemoteURLValidated="True/RemoteURLValid")


@shows(KIND, "GroupRefValidated=False/GroupRefNotFound")
async def test_a_missing_group_fails_the_entry_until_it_is_there(cluster: Cluster) -> None:
    await cluster.entry()
    failed = await cluster.until(KIND, "e", phase="Failed", GroupRefValidated="False/GroupRefNotFound")
    assert conditions_of(failed)["GroupRefValidated"][1] == "MCPGroup 'g' not found"
    await cluster.group()
    await cluster.until(KIND, "e", phase="Valid", GroupRefValidated="True/GroupRefIsValid")


@shows(KIND, "GroupRefValidated=True/GroupRefIsValid", "Ready=True/EntryReady")
async def test_a_deleted_group_is_noticed_by_its_entries_themselves(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.until(KIND, "e", phase="Valid")
    await cluster.delete("MCPGroup", "g")
    await cluster.until(KIND, "e", phase="Failed", GroupRefValidated="False/GroupRefNotFound")
    await cluster.until("MCPGroup", "g", gone=True)


async def test_a_group_that_is_held_while_being_deleted_counts_as_gone(cluster: Cluster) -> None:
    await cluster.create("MCPGroup", "g", metadata={"finalizers": ["example.com/held"]})
    await cluster.entry()
    await cluster.until(KIND, "e", phase="Valid")
    await cluster.delete("MCPGroup", "g")
    failed = await cluster.until(KIND, "e", phase="Failed", GroupRefValidated="False/GroupRefNotFound")
    assert conditions_of(failed)["GroupRefValidated"][1] == "Referenced MCPGroup is being deleted"
    await cluster.patch("MCPGroup", "g", {"metadata": {"finalizers": []}})
    await cluster.until("MCPGroup", "g", gone=True)


@shows(
    KIND,
    "ExternalAuthConfigValidated=True/AuthConfigValid",
    "ExternalAuthConfigValidated=False/AuthConfigNotFound",
)
async def test_a_missing_auth_config_fails_the_entry_until_it_is_there(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry(externalAuthConfigRef={"name": "a"})
    await cluster.until(KIND, "e", phase="Failed", ExternalAuthConfigValidated="False/AuthConfigNotFound")
    await cluster.auth()
    await cluster.until(KIND, "e", phase="Valid", ExternalAuthConfigValidated="True/AuthConfigValid")
    await cluster.patch(KIND, "e", {"spec": {"externalAuthConfigRef": None}})
    await cluster.until(KIND, "e", phase="Valid", ExternalAuthConfigValidated="True/AuthConfigNotConfigured")


@shows(
    KIND,
    "CABundleRefValidated=True/CABundleRefValid",
    "CABundleRefValidated=False/CABundleRefNotFound",
    "CABundleRefValidated=False/CABundleRefInvalid",
)
async def test_a_ca_bundle_is_judged_by_config_map_key_and_certificate(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry(caBundleRef={"configMapRef": {"name": "c", "key": "ca.crt"}})
    await cluster.until(KIND, "e", phase="Failed", CABundleRefValidated="False/CABundleRefNotFound")
    await cluster.config_map(other="x")
    missing = await cluster.until(KIND, "e", phase="Failed", CABundleRefValidated="False/CABundleRefNotFound")
    await cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        KIND,
        "e",
        namespace=cluster.namespace,
        until=lambda found: "no key 'ca.crt'" in conditions_of(found or missing)["CABundleRefValidated"][1],
    )
    await cluster.patch("ConfigMap", "c", {"data": {"ca.crt": "no certificate"}})
    await cluster.until(KIND, "e", phase="Failed", CABundleRefValidated="False/CABundleRefInvalid")
    await cluster.patch("ConfigMap", "c", {"data": {"ca.crt": certificate()}})
    await cluster.until(KIND, "e", phase="Valid", CABundleRefValidated="True/CABundleRefValid")
    await cluster.delete("ConfigMap", "c")
    await cluster.until(KIND, "e", phase="Failed", CABundleRefValidated="False/CABundleRefNotFound")
    await cluster.patch(KIND, "e", {"spec": {"caBundleRef": None}})
    await cluster.until(KIND, "e", phase="Valid", CABundleRefValidated="True/CABundleRefNotConfigured")


@shows(
    KIND,
    "HeaderSecretRefsValidated=True/HeaderSecretsValid",
    "HeaderSecretRefsValidated=False/HeaderSecretNotFound",
    "HeadersValidated=True/HeadersValid",
)
async def test_every_missing_header_secret_and_key_is_named(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.secret("s", there="1")
    headers = [header("X-A", "s", "there"), header("X-B", "s", "absent"), header("X-C", "t", "k")]
    await cluster.entry(headerForward={"addHeadersFromSecret": headers})
    failed = await cluster.until(KIND, "e", phase="Failed", HeaderSecretRefsValidated="False/HeaderSecretNotFound")
    assert conditions_of(failed)["HeaderSecretRefsValidated"][1] == (
        'Secret "s" has no key "absent" for header "X-B"; Secret "t" of header "X-C" not found'
    )
    await cluster.secret("t", k="1")
    await cluster.patch("Secret", "s", {"data": encoded(absent="2")})
    await cluster.until(
        KIND,
        "e",
        phase="Valid",
        HeaderSecretRefsValidated="True/HeaderSecretsValid",
        HeadersValidated="True/HeadersValid",
    )
    await cluster.patch("Secret", "t", {"data": {"k": None}})
    await cluster.until(KIND, "e", phase="Failed", HeaderSecretRefsValidated="False/HeaderSecretNotFound")
    await cluster.patch(KIND, "e", {"spec": {"headerForward": None}})
    await cluster.until(KIND, "e", phase="Valid", HeaderSecretRefsValidated="", HeadersValidated="")


@shows(
    KIND,
    "HeadersValidated=False/RestrictedHeader",
    "HeadersValidated=False/HeaderInvalid",
)
async def test_restricted_and_illegal_headers_are_refused(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry(headerForward={"addPlaintextHeaders": {"hOST": "a", "X-Ok": "1"}})
    failed = await cluster.until(KIND, "e", phase="Failed", HeadersValidated="False/RestrictedHeader")
    assert '"Host"' in conditions_of(failed)["HeadersValidated"][1]
    plain = {"addPlaintextHeaders": {"hOST": None, "X-Ok": "a\nb"}}
    await cluster.patch(KIND, "e", {"spec": {"headerForward": plain}})
    await cluster.until(KIND, "e", phase="Failed", HeadersValidated="False/HeaderInvalid")
    await cluster.patch(KIND, "e", {"spec": {"headerForward": {"addPlaintextHeaders": {"X-Ok": "1"}}}})
    await cluster.until(KIND, "e", phase="Valid", HeadersValidated="True/HeadersValid")


@shows(KIND, "GroupRefValidated=False/GroupRefNotReady")
async def test_a_group_that_is_not_ready_fails_the_entry_until_it_is(admin, namespace, control_plane, start_operator):
    """The group's status is written here as its controller would write it when it cannot list."""
    await start_operator(only=["mcpserverentry"])
    cluster = Cluster(admin, namespace, control_plane)
    await cluster.create("MCPGroup", "g")
    await cluster.entry()
    await cluster.until(KIND, "e", phase="Failed", GroupRefValidated="False/GroupRefNotReady")
    await cluster.patch("MCPGroup", "g", {"status": {"phase": "Ready"}}, status=True)
    await cluster.until(KIND, "e", phase="Valid", GroupRefValidated="True/GroupRefIsValid")


@shows(KIND, "Valid=False/NameCollision")
async def test_an_entry_waits_for_an_older_endpoint_of_its_name(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint("same")
    await cluster.until("MCPRemoteEndpoint", "same", phase="Ready")
    await wait_for_the_next_second(cluster, "MCPRemoteEndpoint", "same")
    await cluster.entry("same")
    await cluster.until(KIND, "same", phase="Failed", Valid="False/NameCollision")
    started = time.monotonic()
    await cluster.delete("MCPRemoteEndpoint", "same")
    await cluster.until(KIND, "same", phase="Valid", Valid="True/ConfigValid")
    assert time.monotonic() - started < 1.0


async def test_an_entry_waits_for_an_older_server_of_its_name_also_while_that_one_cannot_be_used(
    cluster: Cluster,
) -> None:
    await cluster.group()
    spec = {"image": "example.com/mcp", "transport": "streamable-http", "groupRef": {"name": "g"}}
    await cluster.create("MCPServer", "same", spec)
    await wait_for_the_next_second(cluster, "MCPServer", "same")
    await cluster.entry("same")
    await cluster.until(KIND, "same", phase="Failed", Valid="False/NameCollision")
    await cluster.delete("MCPServer", "same")
    await cluster.until(KIND, "same", phase="Valid", Valid="True/ConfigValid")


async def test_an_entry_without_spec_fails_with_a_sentence(cluster: Cluster) -> None:
    await cluster.create(KIND, "e")
    failed = await cluster.until(KIND, "e", phase="Failed", Valid="False/ConfigInvalid")
    assert "spec: field required" in conditions_of(failed)["RemoteURLValidated"][1]


@shows(
    KIND,
    "Valid=True/ConfigValid",
    "RemoteURLValidated=True/RemoteURLValid",
    "ExternalAuthConfigValidated=True/AuthConfigNotConfigured",
    "CABundleRefValidated=True/CABundleRefNotConfigured",
)
async def test_a_valid_entry_fails_when_its_spec_becomes_bad(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.until(KIND, "e", phase="Valid")
    bad = {
        "remoteUrl": "http://localhost",
        "externalAuthConfigRef": {"name": "nobody"},
        "caBundleRef": {"configMapRef": {"name": "nothing", "key": "ca.crt"}},
    }
    await cluster.patch(KIND, "e", {"spec": bad})
    await cluster.until(
        KIND,
        "e",
        phase="Failed",
        Valid="False/ConfigInvalid",
        RemoteURLValidated="False/RemoteURLInvalid",
        ExternalAuthConfigValidated="False/AuthConfigNotFound",
        CABundleRefValidated="False/CABundleRefNotFound",
    )


async def test_a_status_that_somebody_edited_is_repaired(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.until(KIND, "e", phase="Valid")
    await cluster.patch(KIND, "e", {"status": {"phase": "Failed", "conditions": []}}, status=True)
    await cluster.until(KIND, "e", phase="Valid", Valid="True/ConfigValid")


async def test_a_secret_that_many_entries_use_is_read_once_per_change(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.secret("s", k="1")
    for number in range(20):
        await cluster.entry(f"e{number}", headerForward={"addHeadersFromSecret": [header("X-A", "s", "k")]})
    for number in range(20):
        await cluster.until(KIND, f"e{number}", phase="Valid")
    assert secret_reads(cluster, "s") == 1
    await cluster.patch("Secret", "s", {"data": {"k": None}})
    for number in range(20):
        await cluster.until(KIND, f"e{number}", phase="Failed")
    assert secret_reads(cluster, "s") == 2


async def test_settled_entries_ask_nothing_of_the_server(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.secret("s", k="1")
    await cluster.config_map(**{"ca.crt": certificate()})
    await cluster.auth()
    await cluster.entry(
        "good", externalAuthConfigRef={"name": "a"}, caBundleRef={"configMapRef": {"name": "c", "key": "ca.crt"}}
    )
    await cluster.entry("bad", headerForward={"addHeadersFromSecret": [header("X-A", "s", "absent")]})
    await cluster.until(KIND, "good", phase="Valid")
    await cluster.until(KIND, "bad", phase="Failed")
    await cluster.until("MCPExternalAuthConfig", "a", Valid="True/ValidationSucceeded")
    await cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        "MCPGroup",
        "g",
        namespace=cluster.namespace,
        until=lambda found: (found or {}).get("status", {}).get("entryCount") == 2,
    )
    await cluster.assert_idle()


def secret_reads(cluster: Cluster, name: str) -> int:
    asked = [e["objectRef"] for e in cluster.requests() if e["verb"] == "get"]
    return sum(ref["resource"] == "secrets" and ref.get("name") == name for ref in asked)


async def test_an_entry_written_in_v1alpha1_is_judged_like_any_other(cluster: Cluster) -> None:
    await cluster.group()
    spec = {"remoteUrl": "https://mcp.example.com", "transport": "sse", "groupRef": {"name": "g"}}
    await cluster.create(KIND, "old", spec, api="toolhive.stacklok.dev/v1alpha1")
    await cluster.until(KIND, "old", phase="Valid", Valid="True/ConfigValid")
