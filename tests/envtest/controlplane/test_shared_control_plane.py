"""The shared control plane and its fixtures do what their docstrings say."""

from __future__ import annotations

import asyncio

import pytest

from hack.controlplane import Kube, KubectlError, KubeError, Options

WIDGET = ("test.example.com/v1", "Widget")


def widget(name: str, namespace: str, **meta: object) -> dict:
    return {
        "apiVersion": WIDGET[0],
        "kind": WIDGET[1],
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {"size": 1},
    }


async def test_a_kind_of_the_tests_is_served_and_its_status_is_a_subresource(admin, namespace):
    created = await admin.create(widget("a", namespace) | {"status": {"phase": "ignored"}})
    assert "status" not in created
    patched = await admin.patch(*WIDGET, "a", {"status": {"phase": "Ready"}}, namespace=namespace, subresource="status")
    assert patched["status"] == {"phase": "Ready"}


async def test_an_owned_object_is_garbage_collected(admin, namespace):
    owner = await admin.create(widget("owner", namespace))
    reference = {"apiVersion": WIDGET[0], "kind": WIDGET[1], "name": "owner", "uid": owner["metadata"]["uid"]}
    await admin.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "owned", "namespace": namespace, "ownerReferences": [reference]},
        }
    )
    await admin.delete(*WIDGET, "owner", namespace=namespace)
    await admin.wait_for("v1", "ConfigMap", "owned", namespace=namespace, until=lambda found: found is None, timeout=60)


async def test_a_deleted_namespace_goes_away_with_all_that_is_in_it(admin):
    await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "short-lived"}})
    await admin.create(widget("a", "short-lived", finalizers=[]))
    await admin.delete("v1", "Namespace", "short-lived")
    await admin.wait_for("v1", "Namespace", "short-lived", until=lambda found: found is None, timeout=60)


async def test_nobody_writes_the_status_of_a_deployment_behind_the_tests_back(admin, namespace, control_plane):
    labels = {"app": "a"}
    await admin.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "a", "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "a", "image": "registry.example.com/a"}]},
                },
            },
        }
    )
    ready = {"status": {"replicas": 1, "readyReplicas": 1}}
    await admin.patch("apps/v1", "Deployment", "a", ready, namespace=namespace, subresource="status")
    writers = {
        event["user"]["username"]
        for event in control_plane.audit_events(namespace=namespace)
        if event["objectRef"]["resource"] == "deployments"
    }
    assert writers == {"admin"}


async def test_a_user_may_do_what_its_rules_say_and_nothing_else(admin, namespace, make_user):
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    async with Kube(await make_user("reader", rules=rules, namespace=namespace)) as reader:
        assert await reader.list("v1", "ConfigMap", namespace=namespace) == []
        with pytest.raises(KubeError, match="cannot list resource") as refused:
            await reader.list("v1", "ConfigMap", namespace="default")
        assert refused.value.status == 403
        with pytest.raises(KubeError, match="cannot create resource"):
            await reader.create(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}}
            )


async def test_a_service_account_token_works_as_that_account(admin, namespace, control_plane):
    await admin.create(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa", "namespace": namespace}}
    )
    token = await control_plane.service_account_token(namespace, "sa")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
    async with Kube(control_plane.token_kubeconfig("sa", token)) as client:
        answer = await client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
    assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:sa"


async def test_the_audit_log_tells_who_asked_for_what(admin, namespace, make_user, control_plane):
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    kubeconfig = await make_user("audited", rules=rules)
    async with Kube(kubeconfig) as client:
        await client.list("v1", "ConfigMap", namespace=namespace)
    asked = [
        (event["verb"], event["objectRef"]["resource"])
        for event in control_plane.audit_events(user=kubeconfig.stem)
        if "objectRef" in event
    ]
    assert asked == [("list", "configmaps")]


async def test_the_audit_log_is_never_cut(make_control_plane):
    """By default kube-apiserver begins another file after 100 MB, and what is in the old one is no longer counted."""
    plane = make_control_plane(Options(audit="Metadata"))
    padding, count = "x" * 900_000, 130
    async with Kube(plane.handle.kubeconfig) as client:
        for _ in range(count):
            await client.text(f"/version?{padding}")
    assert plane.handle.audit_log.stat().st_size > 110e6
    asked = [event for event in plane.handle.audit_events() if event["requestURI"].startswith("/version?x")]
    assert len(asked) == count


def test_kubectl_answers_and_its_errors_name_the_command(kubectl, namespace):
    assert namespace in kubectl("get", "namespaces", "-o", "name")
    with pytest.raises(KubectlError, match=r"kubectl get widget nothere -n .*\n.*not found"):
        kubectl("get", "widget", "nothere", "-n", namespace)


async def test_waiting_in_vain_shows_the_last_object(admin, namespace):
    await admin.create(widget("stuck", namespace))
    with pytest.raises(TimeoutError, match=r'(?s)Widget .*/stuck: not as expected after 0.2 s:.*"size": 1'):
        await admin.wait_for(*WIDGET, "stuck", namespace=namespace, until=lambda found: found is None, timeout=0.2)


async def test_waiting_sees_a_change_that_comes_later(admin, namespace, control_plane):
    await admin.create(widget("late", namespace))
    async with Kube(control_plane.kubeconfig) as other:
        waiter = admin.wait_for(
            *WIDGET, "late", namespace=namespace, until=lambda found: bool(found) and found["spec"]["size"] == 2
        )
        seen, _ = await asyncio.gather(waiter, other.patch(*WIDGET, "late", {"spec": {"size": 2}}, namespace=namespace))
    assert seen["spec"] == {"size": 2}
