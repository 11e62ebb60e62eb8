"""Metrics: names, and labels that a caller cannot multiply."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from vmcp.observe.metrics import BackendSample, Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    kind, body = metrics.render()
    assert kind.startswith("text/plain")
    return {
        sample.name + "".join(f"[{key}={value}]" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_requests_are_counted_and_timed_by_method_era_and_outcome():
    metrics = Metrics()
    metrics.request("tools/call", "modern", "success", 0.003)
    metrics.request("tools/call", "modern", "success", 0.003)
    found = samples(metrics)
    labels = "[era=modern][mcp_method=tools/call][outcome=success]"
    assert found["toolhive_mcp_requests_total" + labels] == 2
    assert found["toolhive_mcp_request_duration_seconds_count" + labels] == 2


def test_invented_methods_make_one_series():
    metrics = Metrics()
    for number in range(100):
        metrics.request(f"evil/{number}", "legacy", "failure", 0.1)
    series = [name for name in samples(metrics) if name.startswith("toolhive_mcp_requests_total")]
    assert series == ["toolhive_mcp_requests_total[era=legacy][mcp_method=other][outcome=failure]"]


def test_tools_beyond_the_bound_are_counted_together():
    metrics = Metrics(max_tools=3)
    for number in range(10):
        metrics.tool_call(f"t{number}", "gh", "success")
    found = {
        name: value for name, value in samples(metrics).items() if name.startswith("toolhive_mcp_tool_calls_total")
    }
    assert len(found) == 4
    assert found["toolhive_mcp_tool_calls_total[backend=gh][outcome=success][tool=other]"] == 7


def test_backends_that_are_gone_leave_no_series():
    metrics = Metrics()
    for name in ("a", "b"):
        metrics.backend_request(name, "tools/call", 0.1, failed=True)
        metrics.tool_call("t", name, "success")
    metrics.forget_backends(["a"])
    text = metrics.render()[1].decode()
    assert 'target_workload_id="b"' in text
    assert 'target_workload_id="a"' not in text
    assert 'backend="a"' not in text


def test_states_of_backends_are_read_when_scraped():
    metrics = Metrics()
    state = [BackendSample("a", up=True, circuit_open=False), BackendSample("b", up=False, circuit_open=True)]
    metrics.watch_backends(lambda: state)
    found = samples(metrics)
    assert found["toolhive_vmcp_backends_discovered"] == 2
    assert (found["vmcp_backend_up[backend=a]"], found["vmcp_backend_up[backend=b]"]) == (1, 0)
    assert found["vmcp_backend_circuit_open[backend=b]"] == 1


def test_reloads_say_whether_the_file_as_it_is_was_accepted():
    metrics = Metrics()
    metrics.reloaded(accepted=True)
    metrics.reloaded(accepted=False)
    found = samples(metrics)
    assert found["vmcp_config_last_reload_successful"] == 0
    assert found["vmcp_config_last_reload_success_timestamp_seconds"] > 1e9
    assert found["vmcp_config_reloads_total[result=refused]"] == 1


def test_two_gateways_in_one_process_do_not_share_metrics():
    first, second = Metrics(), Metrics()
    first.rate_limited.inc()
    assert samples(first)["vmcp_rate_limited_total"] == 1
    assert samples(second)["vmcp_rate_limited_total"] == 0
