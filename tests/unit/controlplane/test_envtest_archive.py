"""The official archive is taken only when it is the newest of our minor version and its checksum is right."""

from __future__ import annotations

import hashlib
import io
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml

from hack.controlplane import download
from hack.controlplane.programs import REQUIRED, BinariesError, kubernetes_version, target

PLATFORM = "-".join(target())
MINOR = kubernetes_version().rpartition(".")[0]


def archive(names, *, root="controller-tools/envtest") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(f"{root}/{name}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return data.getvalue()


@pytest.fixture
def mirror(tmp_path):
    """A release server on loopback: `mirror(content, checksum)` publishes an archive, returns the index URL."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    handler.func.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"

    def publish(content: bytes, checksum: str | None = None) -> str:
        (tmp_path / "a.tar.gz").write_bytes(content)
        entry = {"hash": checksum or hashlib.sha512(content).hexdigest(), "selfLink": f"{base}/a.tar.gz"}
        tag = f"v{MINOR}.0"
        (tmp_path / "index.yaml").write_text(
            yaml.safe_dump({"releases": {tag: {f"envtest-{tag}-{PLATFORM}.tar.gz": entry}}})
        )
        return f"{base}/index.yaml"

    yield publish
    server.shutdown()
    server.server_close()


def quiet(_line: str) -> None:
    pass


def test_the_programs_are_unpacked_and_executable(mirror, tmp_path):
    directory = tmp_path / "out" / "bin"
    download.fetch(directory, quiet, kubernetes_version(), index=mirror(archive(REQUIRED)))
    assert sorted(path.name for path in directory.iterdir()) == sorted(REQUIRED)
    assert all(path.stat().st_mode & 0o111 for path in directory.iterdir())


def test_a_wrong_checksum_installs_nothing(mirror, tmp_path):
    with pytest.raises(BinariesError, match=r"SHA-512 is .*, the index says 0000; nothing installed"):
        download.fetch(tmp_path / "out" / "bin", quiet, kubernetes_version(), index=mirror(archive(REQUIRED), "0000"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_without_kubectl_installs_nothing(mirror, tmp_path):
    with pytest.raises(BinariesError, match="lacks kubectl"):
        download.fetch(
            tmp_path / "out" / "bin", quiet, kubernetes_version(), index=mirror(archive(["etcd", "kube-apiserver"]))
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_member_that_climbs_out_of_the_archive_stays_in_the_directory(mirror, tmp_path):
    directory = tmp_path / "out" / "bin"
    download.fetch(directory, quiet, kubernetes_version(), index=mirror(archive([*REQUIRED, "evil"], root="../../..")))
    assert sorted(path.name for path in directory.iterdir()) == sorted(REQUIRED)


def test_nobody_listening_is_a_clear_error(tmp_path):
    with pytest.raises(BinariesError, match=r"cannot read http://127.0.0.1:1/index: .*refused"):
        download.fetch(tmp_path / "bin", quiet, kubernetes_version(), index="http://127.0.0.1:1/index")


def test_the_newest_patch_of_the_minor_version_is_taken_by_number():
    files = {
        f"v{version}": {f"envtest-v{version}-linux-amd64.tar.gz": {"hash": version, "selfLink": "u"}}
        for version in ("1.35.9", "1.36.2", "1.36.10", "1.37.0")
    }
    assert download.newest({"releases": files}, "1.36.3", "linux-amd64").version == "1.36.10"
    with pytest.raises(BinariesError, match=r"no release of Kubernetes 1\.36 for plan9-mips"):
        download.newest({"releases": files}, "1.36.3", "plan9-mips")
