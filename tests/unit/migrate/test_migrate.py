"""Manifests of the superseded kinds become MCPRemoteEndpoints that say the same, comments included."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from api.v1beta1 import MCPRemoteEndpoint
from hack.migrate import STAYS, main, migrated, rewrite

PROXY = """\
# Ours since 2025.
apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPRemoteProxy  # to be replaced
metadata:
  name: notion
  # Who answers for it.
  labels:
    team: docs
  uid: 6a1
spec:
  # The vendor's address.
  remoteUrl: https://notion.example/mcp
  oidcConfigRef:  # who calls
    name: login
    audience: notion
  groupRef:
    name: docs
  # Everybody of docs.
  authzConfig:
    type: inline
    inline:
      policies:
      - |
        # not a comment of YAML
        permit(principal, action, resource);
  port: 9000
status:
  phase: Ready
---
# Stays as it is.
kind: ConfigMap
apiVersion: v1
data: {a: "1"}
"""
EXPECTED = """\
# Ours since 2025.
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPRemoteEndpoint  # to be replaced
metadata:
  name: notion
  # Who answers for it.
  labels:
    team: docs
spec:
  type: proxy
  transport: streamable-http
  # The vendor's address.
  remoteUrl: https://notion.example/mcp
  groupRef:
    name: docs
  proxyConfig:
    oidcConfigRef:  # who calls
      name: login
      audience: notion
    # Everybody of docs.
    authzConfig:
      type: inline
      inline:
        policies:
        - |
          # not a comment of YAML
          permit(principal, action, resource);
    proxyPort: 9000
---
# Stays as it is.
kind: ConfigMap
apiVersion: v1
data: {a: "1"}
"""
HEAD = {"apiVersion": "toolhive.stacklok.dev/v1beta1", "metadata": {"name": "m"}}


def test_a_manifest_is_rewritten_by_the_table_and_keeps_its_comments() -> None:
    found = rewrite(PROXY)
    assert (found.text, found.count, found.remarks) == (EXPECTED, 1, [])
    MCPRemoteEndpoint.model_validate(next(yaml.safe_load_all(found.text)))


def test_an_alias_of_another_part_is_followed() -> None:
    text = (
        "kind: MCPRemoteProxy\napiVersion: toolhive.stacklok.dev/v1beta1\nspec:\n"
        "  audit: &on {enabled: true}\n  groupRef: {name: g}\n  remoteUrl: x\n  headerForward: *on\n"
    )
    spec = yaml.safe_load(rewrite(text).text)["spec"]
    assert (spec["headerForward"], spec["proxyConfig"]) == ({"enabled": True}, {"audit": {"enabled": True}})


def test_what_was_rewritten_is_left_alone() -> None:
    assert rewrite(EXPECTED).text == EXPECTED
    assert rewrite(EXPECTED).count == 0


FIELDS: dict[str, Any] = {
    "remoteUrl": "https://m.example/mcp",
    "transport": "sse",
    "groupRef": {"name": "g"},
    "allowPrivateEndpoint": True,
    "externalAuthConfigRef": {"name": "a"},
    "headerForward": {"addPlaintextHeaders": {"X-A": "b # no comment"}},
    "toolConfigRef": {"name": "t"},
    "oidcConfigRef": {"name": "o", "audience": "a", "scopes": ["x", "y"]},
    "audit": {"enabled": True},
    "replicas": 2,
    "proxyPort": 9000,
    "sessionAffinity": "None",
    "podTemplateSpec": {"spec": {"containers": [{"name": "toolhive", "env": [{"name": "A", "value": "l1\nl2\n"}]}]}},
}


@given(
    st.permutations(list(FIELDS)).flatmap(lambda keys: st.integers(1, len(keys)).map(lambda n: keys[:n])),
    st.sampled_from(["text", "list", "json", "flow"]),
)
def test_whatever_form_and_order_a_proxy_has_it_says_the_same(keys: list[str], form: str) -> None:
    body = HEAD | {"kind": "MCPRemoteProxy", "spec": {key: FIELDS[key] for key in keys}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [body, {"kind": "Other"}, copy.deepcopy(body)]}
    whole: Any = listed if form == "list" else body
    text = json.dumps(whole)
    if form != "json":
        text = yaml.safe_dump(whole, sort_keys=False, default_flow_style=form == "flow")
    if form in ("text", "list"):
        beside = (f"{line}  # beside" if line.endswith("spec:") else line for line in text.splitlines())
        text = "\n".join(["# above", *beside, ""])
    found = rewrite(text)
    made = yaml.safe_load(found.text)
    for one in [made] if form != "list" else [made["items"][0], made["items"][2]]:
        assert one["kind"] == "MCPRemoteEndpoint"
        assert one["spec"]["type"] == "proxy"
        moved = one["spec"].get("proxyConfig", {})
        assert {key: (one["spec"] if key in STAYS else moved)[key] for key in keys} == body["spec"]
        assert len(moved) == len(set(keys) - STAYS)
    if form in ("text", "list"):
        assert "# above" in found.text, "nothing was dumped anew"


def test_an_entry_becomes_direct_and_keeps_every_name() -> None:
    spec = {"remoteUrl": "https://m.example", "transport": "sse", "groupRef": {"name": "g"}}
    bundle = {"caBundleRef": {"configMapRef": {"name": "c", "key": "k"}}}
    made = migrated(HEAD | {"kind": "MCPServerEntry", "spec": spec | bundle})
    assert made["spec"] == {"type": "direct"} | spec | bundle
    MCPRemoteEndpoint.model_validate(made)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"remoteUrl": "https://m.example", "oidcConfigRef": {"name": "o", "audience": "a"}}, "spec.groupRef"),
        ({"remoteUrl": "https://m.example", "groupRef": {"name": "g"}, "replicas": 1}, "oidcConfigRef"),
    ],
)
def test_what_a_human_must_decide_is_said(spec: dict[str, Any], word: str, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(yaml.safe_dump(HEAD | {"kind": "MCPRemoteProxy", "spec": spec}))
    assert main(["--in-place", str(file)]) == 1
    assert word in capsys.readouterr().err
    assert "kind: MCPRemoteEndpoint" in file.read_text()


def test_what_is_no_yaml_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "template.yaml"
    file.write_text("kind: MCPRemoteProxy\nspec:\n  {{ toYaml .Values.spec | nindent 2 }}\n")
    before = file.read_text()
    assert main(["--in-place", str(file)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert file.read_text() == before
