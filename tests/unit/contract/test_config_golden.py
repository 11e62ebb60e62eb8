"""Realistic configurations, byte for byte; what stands in the files is what operators write and gateways read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import yaml

from api.contract import ConfigErrors, Dialect, dump_config, load_config, pack_config

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))


def _dialect(path: Path) -> Dialect:
    return Dialect(path.name.split(".")[-2])


def test_there_is_a_dozen():
    assert len(GOLDEN) >= 12


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_file_is_read_and_written_again_byte_for_byte(path: Path):
    data = path.read_bytes()
    config = load_config(data, dialect=_dialect(path))
    assert dump_config(config, _dialect(path)) == data
    assert load_config(gzip.compress(data), dialect=_dialect(path)) == config
    assert pack_config(data) == pack_config(data)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_our_gateway_reads_every_dialect(path: Path):
    load_config(path.read_bytes(), dialect=Dialect.NATIVE)


@pytest.mark.parametrize("path", [path for path in GOLDEN if "native" in path.name], ids=lambda path: path.stem)
def test_the_stock_dialect_refuses_what_only_ours_has(path: Path):
    text = path.read_text(encoding="utf-8")
    ours = any(word in text for word in ("headerForward", "prefixOnConflict"))
    try:
        load_config(text, dialect=Dialect.TOOLHIVE)
    except ConfigErrors:
        assert ours
    else:
        assert not ours


def test_the_layout_is_that_of_the_stock_writer():
    """Four spaces, sequences indented below their key, buckets' durations as a nested mapping."""
    text = next(path for path in GOLDEN if path.name == "operations.toolhive.yaml").read_text(encoding="utf-8")
    assert (
        "rateLimiting:\n    shared:\n        maxTokens: 100\n        refillPeriod:\n            duration: 1m0s\n"
        in text
    )
    assert "passthroughHeaders:\n    - X-Request-Id\n    - X-Tenant\n" in text
    assert yaml.safe_load(text)["metadata"] == {"build": "1.10", "owner": "on"}
