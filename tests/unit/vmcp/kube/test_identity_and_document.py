"""Whose gateway a process is, and which of ConfigMap and file is the newer configuration."""

from __future__ import annotations

import os

import pytest

from api.contract.errors import ConfigErrors
from runtime.wire.decode import record_from_body
from runtime.wire.errors import TransportError
from vmcp.config.reload import PendingError
from vmcp.kube.document import Document
from vmcp.kube.identity import Identity, read_identity
from vmcp.kube.named import CONFIG_MAP, State

NAMED = {"VMCP_NAME": "v", "VMCP_NAMESPACE": "n"}
DOWN = TransportError("down")


@pytest.mark.parametrize(
    ("environ", "token", "expected"),
    [
        (NAMED, True, False),
        ({**NAMED, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True, True),
        ({**NAMED, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, False),
        ({**NAMED, "KUBECONFIG": "/k"}, False, True),
        ({"VMCP_NAME": "v", "KUBECONFIG": "/k"}, True, False),
        ({"KUBECONFIG": "/k"}, True, False),
    ],
)
def test_an_api_server_is_asked_only_where_it_is_clear_which_and_for_whom(environ, token, expected, tmp_path):
    path = tmp_path / "token"
    if token:
        path.write_text("t")
    assert read_identity(environ, path) == (Identity("n", "v") if expected else None)


class Known:
    """`NamedObjects` that knows what a test says."""

    def __init__(self) -> None:
        self.now = State(known=False)

    def state(self, name):
        assert name == (CONFIG_MAP, "v-vmcp-config")
        return self.now

    def says(self, text: str | None, error: Exception | None = None, *, key: str = "config.yaml") -> None:
        metadata = {"name": "v-vmcp-config", "namespace": "n", "uid": "u", "resourceVersion": "1"}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}}
        self.now = State(True, record_from_body(CONFIG_MAP, body) if text is not None else None, error)


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def document(known, tmp_path) -> Document:
    path = tmp_path / "config.yaml"
    path.write_text("one")
    os.utime(path, (0, 0))
    return Document(known, Identity("n", "v"), path)


async def test_the_file_is_the_copy_to_start_with(document):
    assert await document.read() == b"one"


async def test_the_config_map_goes_before_an_older_file(document, known):
    known.says("two")
    assert await document.read() == b"two"


async def test_a_file_that_says_what_was_told_before_is_old(document, known, tmp_path):
    for told in ("one", "two"):
        known.says(told)
        assert await document.read() == told.encode()
    known.says("two", DOWN)
    assert await document.read() == b"two", "the file says one, which came before two"
    (tmp_path / "config.yaml").write_text("three")
    assert await document.read() == b"three", "nobody has told of it: the kubelet knows more than the broken watch"


async def test_a_config_map_that_is_gone_takes_nothing_away(document, known):
    known.says("one")
    await document.read()
    known.says("two")
    await document.read()
    known.says(None)
    assert await document.read() == b"two"


async def test_a_file_that_cannot_be_read_is_no_loss_once_something_was_told(document, known, tmp_path):
    known.says("two")
    await document.read()
    (tmp_path / "config.yaml").unlink()
    known.says("two", DOWN)
    assert await document.read() == b"two"


async def test_without_a_file_the_config_map_is_waited_for(known):
    document = Document(known, Identity("n", "v"), None)
    with pytest.raises(PendingError):
        await document.read()
    known.says("one", key="other")
    with pytest.raises(ConfigErrors) as caught:
        await document.read()
    assert "ConfigMap v-vmcp-config has no key config.yaml" in str(caught.value)


async def test_the_stamp_changes_with_either(document, known, tmp_path):
    stamps = [document.stamp()]
    known.says("two")
    stamps.append(document.stamp())
    (tmp_path / "config.yaml").write_text("three and more")
    stamps.append(document.stamp())
    assert len(set(stamps)) == 3
    assert document.stamp() == stamps[-1]
