"""What the benchmarks of the operator count, expect and conclude."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from hack.bench.operator import plan
from hack.bench.operator.__main__ import CRDS, parser, read, unknown_kinds
from hack.bench.operator.audit import AuditLog, by_verb, writes
from hack.bench.operator.contenders import as_installed, ours
from hack.bench.operator.report import Verdicts
from hack.bench.operator.scenarios import Figures, Steady, explain
from hack.bench.operator.world import Size


def audited(user: str, verb: str, resource: str, *, subresource: str = "", stage: str = "ResponseComplete") -> bytes:
    reference: dict[str, Any] = {"resource": resource} | ({"subresource": subresource} if subresource else {})
    event = {"stage": stage, "user": {"username": user}, "verb": verb, "objectRef": reference}
    return orjson.dumps(event) + b"\n"


def test_finished_requests_of_one_user_after_a_mark_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.write_bytes(audited("a", "create", "pods"))
    log = AuditLog(file)
    mark = log.mark()
    with file.open("ab") as more:
        more.write(audited("a", "patch", "mcpgroups", subresource="status"))
        more.write(audited("a", "patch", "mcpgroups", subresource="status", stage="RequestReceived"))
        more.write(audited("b", "patch", "mcpgroups", subresource="status"))
        more.write(audited("a", "watch", "mcpgroups", stage="ResponseComplete"))
        more.write(audited("a", "update", "leases"))
        more.write(audited("a", "get", "secrets")[:-10])
    assert log.requests("a", mark) == {"patch mcpgroups/status": 1}
    assert log.requests("a", 0)["create pods"] == 1


def test_writes_are_told_from_reads() -> None:
    requests = Counter({"patch pods": 2, "create pods": 1, "get pods": 5, "patch pods/status": 7})
    assert writes(requests, "pods") == 3
    assert by_verb(requests) == "create 1, get 5, patch 9"


def test_only_definitions_of_unknown_kinds_are_taken_from_a_peer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no definitions"):
        unknown_kinds(tmp_path)
    known = min(CRDS.glob("*mcpgroups.yaml")).read_text()
    (tmp_path / "known.yaml").write_text(known)
    (tmp_path / "new.yaml").write_text(known.replace("mcpgroups", "mcpregistries"))
    (tmp_path / "values.yaml").write_text("kind: Values\n")
    assert unknown_kinds(tmp_path) == [tmp_path / "new.yaml"]


@pytest.mark.parametrize("text", ["", "5", "x5", "5x", "0x5", "-1x5", "ax5"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GROUPSxENTRIES"):
        plan.size_of(text)


def test_nobody_is_expected_to_take_longer_than_they_may() -> None:
    size, contenders = Size(1, 100_000), [ours("native")]
    short = plan.expected_burst(size, contenders, 10.0)
    assert plan.expected_burst(size, contenders, 30.0) - short == pytest.approx(20.0)
    # Who does not settle in time has no cold start, idle and churn.
    assert plan.expected_steady(size, contenders, 10.0, 1000.0) == pytest.approx(short)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(["--parts=burst"], "unknown part burst"), (["--only=nobody"], "no contender nobody"), (["--bursts=5"], "'5' is")],
)
def test_wrong_usage_is_explained(arguments: list[str], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read(parser().parse_args(arguments))


def test_a_full_run_holds_every_size_of_the_budgets() -> None:
    run = read(parser().parse_args(["--full", "--only=ours-native"]))
    assert [str(size) for size in run.bursts] == ["1x200", "1x1000", "1x4000", "50x40", "1x10000"]
    assert str(run.steady) == "100x100"
    assert {part for part, _ in run.expected()} >= {"start", "burst 1x10000", "steady 100x100", "reads", "writes"}


def test_a_burst_that_did_not_settle_misses_its_budget(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = Verdicts()
    verdicts.burst("ours-native", Size(1, 1000), Figures(failure="not settled"), floor=1.0)
    verdicts.steady("ours-native", Size(2, 2), Steady(failure="not settled"))
    verdicts.show()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 1x1000")]
    assert lines == ["| 1x1000: settled / floor | inf | 1.25 | MISSED |"]


def test_a_figure_that_could_not_be_measured_holds_no_budget(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = Verdicts()
    verdicts.at_most("a", math.nan, 1.0)
    verdicts.at_most("b", 1.0, 1.0)
    verdicts.at_most("c", 1.1, 1.0)
    verdicts.show()
    out = capsys.readouterr().out
    assert "| a | nan | 1 | not measured |" in out
    assert "| b | 1.00 | 1 | holds |" in out
    assert "| c | 1.10 | 1 | MISSED |" in out


def test_a_failure_in_a_group_is_told_in_one_line() -> None:
    assert explain(ExceptionGroup("many", [ExceptionGroup("more", [TimeoutError("too\nlate")])])) == "too late"


def test_the_operator_is_measured_without_what_only_developers_have(tmp_path: Path) -> None:
    code = "import structlog; print(structlog.dev.rich)"
    done = subprocess.run([sys.executable, "-c", code], env=as_installed(tmp_path), capture_output=True, check=True)
    assert done.stdout.strip() == b"None"
