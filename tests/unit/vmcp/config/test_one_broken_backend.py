"""A backend that cannot be used costs that backend: the others are served, and it is said which and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trustme

from api.contract.errors import ConfigErrors
from tests.unit.vmcp.config.configs import document, text
from tests.unit.vmcp.config.test_reloading import Bench
from vmcp.config.load import load
from vmcp.config.reload import ConfigStatus, report_left_out
from vmcp.observe.metrics import Metrics

SECRET = "do-not-show-me"
INJECTION = {"type": "header_injection", "headerInjection": {"headerName": "X-A", "headerValueEnv": "TOKEN"}}


def forward(**headers: dict[str, str]) -> dict[str, Any]:
    return {"backend": {"headerForward": headers}}


BROKEN: dict[str, dict[str, Any]] = {
    "a header of the protocol": forward(addPlaintextHeaders={"Accept": "x"}),
    "a restricted header": forward(addPlaintextHeaders={"Host": "x"}),
    "a padded value": forward(addPlaintextHeaders={"X-A": f" {SECRET}"}),
    "a value beyond Latin-1": forward(addPlaintextHeaders={"X-A": f"{SECRET}\u4e2d"}),
    "a variable that is not set": forward(addHeadersFromSecret={"X-A": "NOT_SET"}),
    "a secret with line breaks": forward(addHeadersFromSecret={"X-A": "BROKEN"}),
    "an identifier that is none": forward(addHeadersFromSecret={"X-A": "a b"}),
    "a URL of another scheme": {"backend": {"url": "ftp://a.example/"}},
    "no URL": {"backend": {"url": ""}},
    "no name": {"backend": {"name": ""}},
    "an unknown transport": {"backend": {"transport": "carrier-pigeon"}},
    "an unknown type": {"backend": {"type": "pod"}},
    "a CA path that is not absolute": {"backend": {"type": "entry", "caBundlePath": "ca.crt"}},
    "a CA bundle that is not there": {"backend": {"type": "entry", "caBundlePath": "/not/there.crt"}},
    "the name of another": {"backend": {"name": "good"}},
    "a strategy whose variable is not set": {"strategy": INJECTION},
    "a strategy that is not supported": {"strategy": {"type": "xaa"}},
    "a strategy without its settings": {"strategy": {"type": "token_exchange"}},
    "an unknown strategy": {"strategy": {"type": "magic"}},
    "an override without words": {"tools": [{"workload": "bad", "overrides": {"t": {}}}]},
    "a time-out that is none": {"operational": {"timeouts": {"perWorkload": {"bad": "0s"}}}},
    "its variable is not JSON": {"environ": {"TOOLHIVE_HEADER_FORWARD_BAD": "{"}},
}
ENVIRON = {"TOOLHIVE_SECRET_BROKEN": f"{SECRET}\n\n"}


def broken(case: str) -> tuple[bytes, dict[str, str]]:
    given = BROKEN[case]
    bad = {"name": "bad", "url": "https://bad.example/mcp", "transport": "sse", **given.get("backend", {})}
    good = {"name": "good", "url": "https://good.example/mcp", "transport": "sse"}
    aggregation = document()["aggregation"] | {"tools": given.get("tools", [])}
    strategies = {"bad": given["strategy"]} if "strategy" in given else {}
    data = text(
        backends=[good, bad],
        aggregation=aggregation,
        outgoingAuth={"source": "inline", "backends": strategies},
        operational=given.get("operational"),
    )
    return data, ENVIRON | given.get("environ", {})


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_backend_is_left_out_and_the_others_are_served(case):
    found = load(*broken(case)).settings
    assert [backend.name for backend in found.backends] == ["good"]
    assert list(found.outgoing) == ["good"]
    (left_out,) = found.left_out
    assert left_out.name == {"no name": "backends[1]", "the name of another": "good"}.get(case, "bad")
    assert left_out.errors
    assert SECRET not in str([str(error) for error in left_out.errors])


@pytest.mark.parametrize("case", ["a restricted header", "a secret with line breaks"])
def test_it_is_told_in_the_status_by_place_in_a_metric_and_in_the_log(case, capsys):
    found = load(*broken(case)).settings
    metrics = Metrics()
    report_left_out(found, metrics)
    (shown,) = ConfigStatus("d", 1.0, left_out=found.left_out).as_json()["left_out"]
    assert shown["backend"] == "bad"
    assert all(place.startswith("backends[1].headerForward") for place in shown["places"])
    assert 'vmcp_backend_left_out{backend="bad"} 1.0' in metrics.render()[1].decode()
    logged = capsys.readouterr().out
    assert "backend left out" in logged
    assert SECRET not in logged + json.dumps(shown)
    report_left_out(load(text(), {}).settings, metrics)
    assert "vmcp_backend_left_out{" not in metrics.render()[1].decode()


def test_a_broken_default_costs_those_that_use_it():
    own = {"good": {"type": "unauthenticated"}}
    found = load(text(outgoingAuth={"source": "inline", "default": INJECTION, "backends": own}), {}).settings
    assert [one.name for one in found.left_out] == ["gh", "old"]
    backends = [{"name": "good", "url": "https://good.example/mcp", "transport": "sse"}, *document()["backends"]]
    changed = text(backends=backends, outgoingAuth={"source": "inline", "default": INJECTION, "backends": own})
    assert [backend.name for backend in load(changed, {}).settings.backends] == ["good"]


def test_what_is_wrong_with_nobody_is_a_warning():
    strategies = {"nobody": {"type": "magic"}}
    found = load(text(outgoingAuth={"source": "inline", "backends": strategies}), {}).settings
    assert not found.left_out
    assert any('unknown value "magic"' in warning for warning in found.warnings)


def test_a_gateway_whose_backends_are_all_broken_starts_without_any():
    found = load(text(backends=[{"name": "bad", "url": "ftp://x", "transport": "sse"}]), {}).settings
    assert (found.backends, len(found.left_out)) == ((), 1)


def test_a_mistake_in_the_document_itself_is_refused_with_all_others():
    with pytest.raises(ConfigErrors) as caught:
        load(text(name="", backends=[{"name": "bad", "url": "ftp://x", "transport": "sse"}]), {})
    assert {error.path for error in caught.value.errors} == {"name", "backends[0].url"}


async def test_a_backend_that_goes_on_as_it_stood_is_not_told_of_as_left_out(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_bytes(text())
    bench = Bench(path)
    entry = {"transport": "sse", "type": "entry", "caBundlePath": "/no/such/ca.crt"}
    waiting = [{"name": name, "url": f"https://{name}.example/", **entry} for name in ("running", "new")]
    path.write_bytes(text(backends=waiting))
    bench.standing = {"running"}
    assert await bench.reloader.check()
    shown = bench.reloader.show()
    place = {"backend": "running", "places": ["backends[0].caBundlePath"]}
    assert (shown["standing"], [one["backend"] for one in shown["left_out"]]) == ([place], ["new"])
    told = bench.metrics.render()[1].decode()
    assert 'vmcp_backend_standing{backend="running"} 1.0' in told
    assert 'vmcp_backend_left_out{backend="new"} 1.0' in told
    assert 'vmcp_backend_left_out{backend="running"}' not in told
    assert "backend keeps its previous configuration" in capsys.readouterr().out
    path.write_bytes(text())
    bench.standing = set()
    assert await bench.reloader.check()
    assert bench.reloader.show()["standing"] == []
    assert "vmcp_backend_standing{" not in bench.metrics.render()[1].decode()


async def test_a_backend_comes_when_its_ca_bundle_does(tmp_path):
    bundle = tmp_path / "ca.crt"
    late = {
        "name": "late",
        "url": "https://l.example/",
        "transport": "sse",
        "type": "entry",
        "caBundlePath": str(bundle),
    }
    path = tmp_path / "config.yaml"
    path.write_bytes(text(backends=[late]))
    bench = Bench(path)
    await bench.reloader.check()
    await bench.reloader.check()
    assert bench.applied == []
    bundle.write_bytes(trustme.CA().cert_pem.bytes())
    assert await bench.reloader.check()
    assert [backend.name for backend in bench.applied[0].backends] == ["late"]
    assert bench.reloader.status.left_out == ()
    assert not await bench.reloader.check()
