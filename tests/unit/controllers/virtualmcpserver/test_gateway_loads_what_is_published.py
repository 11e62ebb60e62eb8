"""Whatever members are admitted, the gateway loads what the operator wrote, and says nothing that the operator did not.

The operator's output goes to the gateway as its pod would get it: the file out of the ConfigMap, the variables out of
the Deployment with the values of the Secrets, the CA bundles at their mounts.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme

from api.contract import Dialect, load_config
from api.contract.identifiers import SESSION_HMAC_ENV
from controllers.shared.content import facts_of
from controllers.shared.resources import CONFIG_MAP, ENDPOINT, ENTRY, PROXY, SECRET, SERVER
from controllers.virtualmcpserver.decide import GatewayDecision, decide
from controllers.virtualmcpserver.members import read_member
from runtime.wire.decode import record_from_body
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import auth_config, make, said
from vmcp.config.load import load
from vmcp.http.client import parse_origin

CA = trustme.CA().cert_pem.bytes().decode()
SENTINEL = "never-to-be-seen"
VALUES = {
    "good": SENTINEL,
    "echo": f"{SENTINEL}\n",
    "two": f"{SENTINEL}\n\n",
    "padded": f" {SENTINEL}",
    "chinese": "\u4e2d\u6587",
    "binary": "\udcff\udcfe",
    "null": "to\0ken",
    "long": "v" * 9000,
    "huge": "v" * 300_000,
    "blank": "\n",
    "empty": "",
}
NAMES = ["X-Key", "x-key", "Authorization", "Cookie", "Accept", "content-type", "Mcp-Session-Id", "MCP-Method",
         "Mcp-Param-A", "Last-Event-ID", "Accept-Encoding", "Host", "Te", "X-Forwarded-For", "X Key", "", "\u00e9",
         "x" * 300, "Mcp-Other", "X-A", "X-B", "X-C"]  # fmt: skip
TEXTS = ["v", "", " v", "v ", "\t", "v\r\nX: y", "v\0", "\u00e9", "\u4e2d", "v" * 9000, "a\tb", "\ud7ff"]
HOSTS = ["mcp.example.com", "b\u00fccher.example", "xn--a.example",
         "xn--bcher-kva.example", "x" * 63 + ".example", "x" * 64 + ".example",
         "\u00fc" * 60 + ".example", "a..example", ".example", "exa\u00admple.com", "127.0.0.1\u00ad", "localhost",
         "2130706433", "0x7f.1", "[::1]", "[2606:4700::1]", "8.8.8.8", "a_b.example", "-a.example", "a b.example",
         "user:pw@mcp.example.com", "mcp.example.com:0", "mcp.example.com:99999", "%6d.example", "mcp\uff0eexample",
         ".".join(["abcdefgh"] * 32), "mcp.example.com.",
         "xn--\u00fc.example", "\u200d.example"]  # fmt: skip
PATHS = ["/mcp", "", "/\u00fc", "/a b", "/%zz", "?q=\u4e2d", "/a#b", "\\b"]
CA_KEYS = ["ca.crt", "a..b", "text", "none"]
STRATEGIES: dict[str, dict[str, Any]] = {
    "open": {"type": "unauthenticated"},
    "bearer": {"type": "bearerToken", "bearerToken": {"tokenSecretRef": {"name": "s", "key": "good"}}},
    "upstream": {"type": "upstreamInject", "upstreamInject": {"providerName": "gh"}},
    "aws": {"type": "awsSts", "awsSts": {"region": "eu-west-1", "fallbackRoleArn": "arn:aws:iam::1:role/x"}},
    "xaa": {
        "type": "xaa",
        "xaa": {
            "idpTokenUrl": "https://idp.example/t",
            "targetTokenUrl": "https://t.example/t",
            "targetAudience": "a",
        },
    },
    "obo": {"type": "obo", "obo": {}},
    **{
        f"inject-{number}": {
            "type": "headerInjection",
            "headerInjection": {"headerName": name, "valueSecretRef": {"name": "s", "key": key}},
        }
        for number, (name, key) in enumerate(
            [*(("X-Key", key) for key in (*VALUES, "gone")), *((name, "good") for name in NAMES if name)]
        )
    },
    **{
        f"exchange-{key}": {
            "type": "tokenExchange",
            "tokenExchange": {
                "tokenUrl": url,
                "audience": "a",
                "clientId": "c",
                "clientSecretRef": {"name": "s", "key": key},
                **({"subjectProviderName": "gh"} if key == "two" else {}),
            },
        }
        for key, url in zip(VALUES, ["https://t.example/token", "ftp://t", "https://", "nonsense"] * 3, strict=False)
    },
}
SECRET_BODY = {
    "metadata": {"name": "s", "namespace": "ns"},
    "data": {key: base64.b64encode(value.encode("utf-8", "surrogateescape")).decode() for key, value in VALUES.items()},
}
MAP_BODY = {
    "metadata": {"name": "pki", "namespace": "ns"},
    "data": {"ca.crt": CA, "a..b": CA, "text": "none"},
}
SEALING = {SESSION_HMAC_ENV: base64.b64encode(bytes(range(32))).decode()}
MATERIAL = {
    "secrets": {"s": facts_of(record_from_body(SECRET, SECRET_BODY))},
    "config_maps": {"pki": facts_of(record_from_body(CONFIG_MAP, MAP_BODY))},
    "auth_configs": {name: auth_config(name, spec) for name, spec in STRATEGIES.items()},
}


def member_body(random: Random, name: str) -> tuple[Any, dict[str, Any]]:
    """An object as an API server could hold it; now and then something about it is odd."""
    kind = random.choice((SERVER, PROXY, ENTRY, ENTRY, ENTRY, ENDPOINT, ENDPOINT))
    odd = random.random() < 0.6
    host = random.choice(HOSTS) if odd and random.random() < 0.4 else f"{name}.example.com"
    path = random.choice(PATHS) if odd and random.random() < 0.4 else "/mcp"
    scheme = random.choice(["https", "http", "ftp"]) if odd and random.random() < 0.1 else "https"
    url = f"{scheme}://{host}{path}"
    spec: dict[str, Any] = {"remoteUrl": url, "transport": random.choice(["sse", "streamable-http"])}
    if kind is ENDPOINT:
        spec["type"] = "direct"
    if random.random() < 0.5:
        plain = {
            random.choice(NAMES if odd else ["X-A", "X-B"]): random.choice(TEXTS if odd else ["v"]) for _ in range(2)
        }
        keys = [*VALUES, "gone"] if odd else ["good", "echo"]
        secret = [
            {
                "headerName": random.choice(NAMES if odd else ["X-C"]),
                "valueSecretRef": {"name": "s", "key": random.choice(keys)},
            }
        ]
        spec["headerForward"] = {"addPlaintextHeaders": plain, "addHeadersFromSecret": secret}
    if random.random() < 0.3:
        spec["caBundleRef"] = {"configMapRef": {"name": "pki", "key": random.choice(CA_KEYS if odd else CA_KEYS[:1])}}
    if random.random() < 0.5:
        spec["externalAuthConfigRef"] = {"name": random.choice([*STRATEGIES, "gone"] if odd else ["open"])}
    phase = "Valid" if kind is ENTRY else "Ready"
    status = {
        "url": url if kind is ENDPOINT else f"http://{name}.ns.svc:8080/mcp",
        "phase": phase,
        "observedGeneration": 1,
    }
    annotations = {"note": "n" * random.choice([0, 10, 300_000])} if odd else {}
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": f"{name}-{kind.plural}",
        "generation": 1,
        "annotations": annotations,
    }
    meta["creationTimestamp"] = f"2026-01-{random.randint(1, 28):02}T00:00:00Z"
    return kind, {"metadata": meta, "spec": spec, "status": status}


def group(random: Random) -> list[Any]:
    names = [random.choice(["a-b", "a.b", f"m{number}", "same"]) for number in range(random.randint(1, 9))]
    found = {}
    for name in names:
        kind, body = member_body(random, name)
        found[kind, name] = read_member(record_from_body(kind, body))
    return list(found.values())


def environment(decision: GatewayDecision) -> dict[str, str]:
    assert decision.intents.deployment is not None
    found = {}
    for variable in decision.intents.deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference is None:
            found[variable["name"]] = variable["value"]
        elif reference["name"] == "s":
            found[variable["name"]] = VALUES[reference["key"]]
    for name, value in found.items():
        assert "\0" not in value, "no process can be started with this"
        assert len(f"{name}={value}".encode("utf-8", "surrogateescape")) < 128 * 1024, "nor with this"
    return found


def document(decision: GatewayDecision) -> bytes:
    assert decision.intents.config_map is not None
    plain = decision.intents.config_map.get("data", {}).get("config.yaml")
    if plain is not None:
        return plain.encode()
    (packed,) = decision.intents.config_map["binaryData"].values()
    return gzip.decompress(base64.b64decode(packed))


def mount(decision: GatewayDecision, root: Path) -> None:
    assert decision.intents.deployment is not None
    pod = decision.intents.deployment["spec"]["template"]["spec"]
    mounts = {entry["name"]: entry["mountPath"] for entry in pod["containers"][0]["volumeMounts"]}
    for volume in pod["volumes"]:
        if volume.get("configMap", {}).get("name") != "pki":
            continue
        for item in volume["configMap"]["items"]:
            target = root / mounts[volume["name"]].removeprefix("/") / item["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(MAP_BODY["data"][item["key"]])


@pytest.mark.parametrize("dialect", Dialect)
def test_the_gateway_loads_what_is_published_and_every_member_that_is_missing_is_named(dialect, scale, tmp_path):
    random = Random(scale.seed)
    served = missing = 0
    for number in range(scale(60, 2000)):
        members = group(random)
        decision = decide(make({}, *members, dialect=dialect, **MATERIAL))
        skipped = {item.name for item in decision.skipped}
        if decision.intents.config_map is None:
            assert dialect is Dialect.TOOLHIVE, said(decision)
            assert said(decision)["ConfigPublished"] == "False/NoUsableBackends"
            assert {member.name for member in members} == skipped
            continue
        data = document(decision)
        if dialect is Dialect.NATIVE:
            root = tmp_path / str(number)
            mount(decision, root)
            settings = load(data, environment(decision), root=str(root)).settings
            assert settings.left_out == ()
            names = [backend.name for backend in settings.backends]
        else:
            names = [b.name for b in load_config(data, dialect=dialect, env=environment(decision)).backends]
        assert len(names) == len(set(names))
        assert {member.name for member in members} == {*names} | skipped
        assert len(members) == len(names) + len(decision.skipped)
        (condition,) = [c for c in decision.conditions if c.type == "BackendsIncluded"]
        assert (condition.status == "True") == (not decision.skipped)
        assert all(item.name in condition.message for item in decision.skipped[:10])
        assert SENTINEL not in json.dumps([decision.intents.config_map, [str(c) for c in decision.conditions]])
        served, missing = served + len(names), missing + len(decision.skipped)
    assert served > 50
    assert missing > 50


@pytest.mark.parametrize("part", range(2))
def test_a_started_gateway_serves_what_is_published(part, scale, tmp_path):
    """As the Deployment starts it: its arguments, its variables, its files; only the port is a free one.

    Every name leads to this machine, where nobody listens: what counts is which backends the gateway has.
    """
    random = Random(scale.seed + part)
    members = [
        member for member in (*group(random), *group(random)) if not re.search(r"//(\[|[0-9.x]+[/:])", member.url)
    ]
    decision = decide(make({}, *members, **MATERIAL))
    assert decision.intents.deployment is not None
    data = document(decision)
    (tmp_path / "config.yaml").write_bytes(data)
    mount(decision, tmp_path)
    container = decision.intents.deployment["spec"]["template"]["spec"]["containers"][0]
    arguments = [
        a for a in container["args"] if not a.startswith(("--config=", "--host=", "--port=", "--service-port="))
    ]
    origins = [parse_origin(backend.url)[0] for backend in load_config(data).backends]
    arguments += [f"--resolve={origin.host}:{origin.port}:127.0.0.1" for origin in origins]
    started = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vmcp",
            *arguments,
            f"--config={tmp_path}/config.yaml",
            "--port=0",
            f"--root={tmp_path}",
        ],
        env={"PATH": os.environ["PATH"], **environment(decision) | SEALING},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert started.stdout is not None
        port = next(int(found[1]) for line in started.stdout if (found := re.search(r'"?port"?[=:] ?(\d+)', line)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30) as answer:
            status = json.load(answer)
        assert status["config"]["left_out"] == []
        assert {backend["name"] for backend in status["backends"]} == {b.name for b in load_config(data).backends}
    finally:
        started.terminate()
        started.communicate(timeout=60)
    assert started.returncode == 0
