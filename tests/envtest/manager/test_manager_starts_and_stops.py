"""The manager as a user meets it: what it says when it cannot work, and how it ends."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from hack.controlplane.rest import Kube
from manager import OPENSHIFT_GROUP
from runtime import Manager, ManagerOptions
from runtime.manager.preflight import serves_group
from runtime.transport.config import load_endpoint
from tests.support.eventually import eventually
from tests.support.process import ROOT, Program

API, RBAC = "toolhive.stacklok.dev/v1beta1", "rbac.authorization.k8s.io"
WIDGET_OPERATOR = ("-m", "tests.support.widget_operator")


async def sentence_of(program: Program, code: int) -> str:
    """The one line that it ends with; a traceback fails the test."""
    assert await program.end(30) == code
    assert not any("Traceback" in line for line in program.raw), "\n".join(program.raw)
    return program.raw[-1]


async def test_the_help_page_names_every_flag():
    process = await asyncio.create_subprocess_exec(
        ".venv/bin/python", "manager.py", "--help", stdout=asyncio.subprocess.PIPE
    )
    text = (await process.communicate())[0].decode()
    assert process.returncode == 0
    for flag in ("--metrics-bind-address", "--health-probe-bind-address", "--leader-elect", "--kubeconfig"):
        assert flag in text
    assert "--vmcp-dialect {native,toolhive}" in text
    assert "--concurrency KIND=N" in text


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (["--concurrency=nokind=3"], {}, r"--concurrency nokind=3: expected KIND=N with KIND one of mcpgroup, .*"),
        (["--concurrency=mcpgroup=0"], {}, r"--concurrency mcpgroup=0: expected KIND=N .* N >= 1"),
        (["--metrics-bind-address=nowhere"], {}, r"'nowhere' is not an address: expected HOST:PORT.*"),
        (["--leader-elect"], {"POD_NAMESPACE": ""}, r"--leader-elect needs POD_NAMESPACE.*"),
        (
            ["--leader-elect", "--leader-elect-renew-deadline=20"],
            {"POD_NAMESPACE": "x"},
            r"leader election needs lease duration > renew deadline .*got 15 s, 20 s and 2 s",
        ),
        ([], {"TOOLHIVE_DEFAULT_REDIS_SECRET_NAME": "s"}, r"TOOLHIVE_DEFAULT_REDIS_SECRET_NAME is set without .*"),
    ],
)
async def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, environ, sentence):
    async with Program("manager.py", *arguments, environ=environ) as program:
        assert re.fullmatch(f"manager.py: {sentence}", await sentence_of(program, 2))


async def test_a_missing_kubeconfig_and_a_dead_server_are_one_sentence(tmp_path: Path, control_plane):
    async with Program("manager.py", "--kubeconfig=/nonexistent/config") as program:
        assert "manager.py: --kubeconfig: no such file" in await sentence_of(program, 1)
    broken = tmp_path / "config"
    broken.write_text("clusters: [")
    async with Program("manager.py", f"--kubeconfig={broken}") as program:
        assert "manager.py: --kubeconfig" in await sentence_of(program, 1)
    dead = tmp_path / "dead"
    dead.write_text(re.sub(r"server: .*", "server: https://127.0.0.1:1", control_plane.kubeconfig.read_text()))
    async with Program("manager.py", f"--kubeconfig={dead}", "--metrics-bind-address=0") as program:
        assert "manager.py: cannot reach the API server at https://127.0.0.1:1: " in await sentence_of(program, 1)


async def test_a_user_without_permissions_is_told_which_one_is_missing(make_user, namespace):
    kubeconfig = await make_user("nobody")
    async with Program("manager.py", f"--kubeconfig={kubeconfig}", environ={"WATCH_NAMESPACE": namespace}) as program:
        sentence = await sentence_of(program, 1)
    assert re.search(r"manager.py: missing permissions \(\d+\): .* cannot list resource", sentence)


async def test_a_namespace_whose_tenant_took_the_rights_away_is_left_out_until_they_are_back(
    make_user, admin: Kube, namespace: str
):
    other = f"{namespace[:55]}-other"
    await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    rules = yaml.safe_load((ROOT / "config" / "rbac" / "role.yaml").read_text())["rules"]
    kubeconfig = await make_user("tenants", rules=rules, namespace=namespace)
    flags = ["--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:0", "--log-format=json"]
    environ = {"WATCH_NAMESPACE": f"{other},{namespace}"}
    async with Program("manager.py", f"--kubeconfig={kubeconfig}", *flags, environ=environ) as program:
        assert (await program.log("namespace is left out until it can be read"))["namespace"] == other
        for where in (namespace, other):
            await group(admin, where)
        await admin.wait_for(API, "MCPGroup", "g", namespace=namespace, until=is_ready, timeout=30)
        port = (await program.log("serving"))["port"]
        assert (await get(f"http://127.0.0.1:{port}/readyz"))[0] == 200
        assert not is_ready(await admin.get(API, "MCPGroup", "g", namespace=other))
        await bind(admin, other, await bound_user(admin, namespace), rules)
        await admin.wait_for(API, "MCPGroup", "g", namespace=other, until=is_ready, timeout=90)
        await program.log("namespace can be read now")
    await admin.delete("v1", "Namespace", other)


async def group(admin: Kube, namespace: str) -> None:
    await admin.create({"apiVersion": API, "kind": "MCPGroup", "metadata": {"name": "g", "namespace": namespace}})


def is_ready(found: dict[str, Any] | None) -> bool:
    return found is not None and found.get("status", {}).get("phase") == "Ready"


async def bound_user(admin: Kube, namespace: str) -> str:
    """The user's name at the server, from the binding that the fixture made."""
    bindings = await admin.list(f"{RBAC}/v1", "RoleBinding", namespace=namespace)
    return next(s["name"] for b in bindings for s in b["subjects"] if s["name"].startswith("tenants-"))


async def bind(admin: Kube, namespace: str, user: str, rules: list[Any]) -> None:
    metadata = {"name": "tenants", "namespace": namespace}
    await admin.create({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    await admin.create(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "tenants"},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
        }
    )


async def test_the_platform_is_told_by_the_groups_that_the_server_serves(control_plane, admin: Kube):
    manager = Manager(await load_endpoint(str(control_plane.kubeconfig)), ManagerOptions())
    assert await serves_group(manager, "toolhive.stacklok.dev")
    assert not await serves_group(manager, OPENSHIFT_GROUP)
    await manager.transport.close()


async def test_a_cluster_without_crds_is_told_to_install_them(make_control_plane):
    from hack.controlplane.plane import Options

    plane = await asyncio.to_thread(make_control_plane, Options(controllers=()))
    async with Program("manager.py", f"--kubeconfig={plane.handle.kubeconfig}") as program:
        sentence = await sentence_of(program, 1)
    assert "the cluster does not know" in sentence
    assert "mcpgroups.toolhive.stacklok.dev" in sentence
    assert sentence.endswith("install the CRDs first")


@pytest.fixture
async def widget_program(control_plane, namespace):
    def make(*arguments: str) -> Program:
        kubeconfig = str(control_plane.kubeconfig)
        return Program(*WIDGET_OPERATOR, "--kubeconfig", kubeconfig, "--namespace", namespace, *arguments)

    return make


async def test_a_taken_port_ends_the_manager_with_one_sentence(widget_program):
    async with widget_program("--probe", "127.0.0.1:0") as first:
        port = (await first.log("serving"))["port"]
        async with widget_program("--probe", f"127.0.0.1:{port}") as second:
            sentence = await sentence_of(second, 1)
        assert (
            sentence == f"health probe: health probe server cannot listen on 127.0.0.1:{port}: address already in use"
        )


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_probes_answer_and_metrics_have_controller_runtimes_names(widget_program, admin: Kube, namespace):
    body = {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": namespace}}
    async with widget_program("--probe", "127.0.0.1:0", "--metrics", "127.0.0.1:0") as program:
        probe = await program.line(lambda line: line.get("server") == "health probe")
        metrics = await program.line(lambda line: line.get("server") == "metrics")
        await admin.create({**body, "spec": {}})
        await program.log("manager started")
        await admin.wait_for("v1", "ConfigMap", "w", namespace=namespace, until=lambda found: found is not None)
        assert await get(f"http://127.0.0.1:{probe['port']}/healthz") == (200, "ok")
        assert (await get(f"http://127.0.0.1:{probe['port']}/readyz?verbose"))[1] == (
            "[+]event-loop ok\n[+]caches ok\nreadyz check passed\n"
        )

        async def scraped() -> str:
            _, text = await get(f"http://127.0.0.1:{metrics['port']}/metrics")
            assert 'controller_runtime_reconcile_total{controller="widget",result="success"} 0.0' not in text
            return text

        text = await eventually(scraped)
    for sample in (
        'controller_runtime_reconcile_errors_total{controller="widget"} 0.0',
        'controller_runtime_max_concurrent_reconciles{controller="widget"} 4.0',
        'controller_runtime_reconcile_time_seconds_bucket{controller="widget",le="0.15"}',
        'workqueue_depth{controller="widget",name="widget",priority="0"} 0.0',
        'workqueue_longest_running_processor_seconds{controller="widget",name="widget"} 0.0',
        'rest_client_requests_total{code="201",host=',
        'runtime_cache_objects{resource="widgets.test.example.com"} 1.0',
    ):
        assert sample in text, sample


async def test_one_signal_drains_and_two_end_at_once(widget_program, admin: Kube, namespace):
    body = {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": namespace}}
    await admin.create({**body, "spec": {"seconds": 1}})
    async with widget_program() as program:
        await program.log("working")
        program.send(signal.SIGTERM)
        assert await program.end(10) == 0
    assert await admin.find("v1", "ConfigMap", "w", namespace=namespace) is not None
    await admin.create({**body, "metadata": {"name": "v", "namespace": namespace}, "spec": {"seconds": 8}})
    async with widget_program() as program:
        await program.line(lambda line: line.get("msg") == "working" and line["name"] == "v")
        program.send(signal.SIGINT)
        await program.log("signal received: stopping; send it again to exit at once")
        program.send(signal.SIGINT)
        assert await program.end(5) == 1


async def test_a_reconcile_that_does_not_drain_is_cut_and_named(widget_program, admin: Kube, namespace):
    body = {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": namespace}}
    await admin.create({**body, "spec": {"seconds": 60}})
    async with widget_program("--grace", "1") as program:
        await program.log("working")
        program.send(signal.SIGTERM)
        assert await sentence_of(program, 1) == "not finished 1 s after the stop: widget"
    assert await admin.find("v1", "ConfigMap", "w", namespace=namespace) is None
