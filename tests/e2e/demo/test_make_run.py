"""`make run` as a user sees it: samples settle, the quickstart's command works, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import psutil
import pytest

from hack.controlplane import Kube
from hack.controlplane.binaries import ensure
from hack.controlplane.programs import KUBECTL

ROOT = Path(__file__).parents[3]
ENTRY = ("toolhive.stacklok.dev/v1beta1", "MCPServerEntry")
pytestmark = [pytest.mark.envtest, pytest.mark.timeout(180)]


class Demo:
    """A running `make run`, its output line by line."""

    def __init__(self, tmp: Path) -> None:
        self.process = subprocess.Popen(
            # As a shell's background job: SIGINT ignored at the start.
            ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "hack.run"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def rest(self) -> list[str]:
        """What is left to read of a demo that has ended."""
        return list(iter(self._queue.get, None))

    def until(self, pattern: str, timeout: float = 90.0) -> re.Match[str]:
        while True:
            try:
                line = self._queue.get(timeout=timeout)
            except Empty:
                line = None
            assert line is not None, f"no line like {pattern!r}:\n" + "".join(self.lines)
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for this file; the last test ends it."""
    ensure()
    running = Demo(tmp_path_factory.mktemp("demo"))
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def kubeconfig(demo: Demo) -> Path:
    return Path(demo.until(r"export KUBECONFIG=(\S+)")[1])


def test_every_sample_reaches_the_state_that_its_annotation_names(demo, kubeconfig):
    assert any(re.search(r"^\d+ samples: all as expected$", line) for line in demo.lines), "".join(demo.lines)


def test_the_generated_configurations_are_shown(demo, kubeconfig):
    text = "".join(demo.lines)
    assert "# the generated configuration of the gateway playground " in text
    assert "https://mcp.context7.com/mcp" in text.partition("configuration of the gateway playground")[2]


async def test_a_mended_mistake_makes_the_entry_valid_as_the_quickstart_says(kubeconfig):
    (command,) = re.findall(r"kubectl (patch secret .*)", (ROOT / "docs" / "quickstart.md").read_text())
    arguments = [part.strip("'") for part in re.findall(r"'[^']*'|\S+", command)]
    kubectl = str(ensure().path(KUBECTL))
    await asyncio.to_thread(
        subprocess.run,
        [kubectl, "--cache-dir=/dev/null", *arguments],
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        check=True,
    )
    async with Kube(kubeconfig) as kube:
        await kube.wait_for(
            *ENTRY,
            "broken-secret-key",
            namespace="samples",
            until=lambda entry: bool(entry) and entry["status"]["phase"] == "Valid",
        )
        await kube.wait_for(
            "v1",
            "ConfigMap",
            "playground-vmcp-config",
            namespace="samples",
            until=lambda found: bool(found) and "https://secret.example.com/mcp" in found["data"]["config.yaml"],
        )


def code_of(page: str) -> str:
    """The indented code of a page, as one script."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    return "".join(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks)


def said_by(script: str, kubeconfig: Path, cache: Path) -> str:
    """Run a script to its end, with this kubectl; each command must succeed."""
    environ = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(cache),
        "PATH": f"{ensure().path(KUBECTL).parent}:{os.environ['PATH']}",
    }
    shell = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(shell, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_of_the_quickstart_works_in_its_order(kubeconfig, tmp_path):
    code = code_of("quickstart.md")
    script = code[code.index("kubectl get toolhive -n samples\n") :]
    assert script.count("kubectl ") >= 8
    said = said_by(script, kubeconfig, tmp_path)
    assert "Name:         broken-secret-key" in said
    assert "groupRef: playground\n" in said, "the generated configuration"
    assert re.search(r"\d members are skipped: broken-auth-config \(NotValid\), ", said)
    assert "mcpremoteendpoint.toolhive.stacklok.dev/mine created" in said
    assert "FIELD: headerForward" in said
    assert 'virtualmcpserver.toolhive.stacklok.dev "playground" deleted' in said


def test_what_cluster_quickstart_and_troubleshooting_say_to_kubectl_works(kubeconfig, tmp_path):
    """All of it that needs no node."""
    pages = code_of("quickstart-cluster.md")
    script, remove = re.split(r"(?m)^(?=kubectl -n demo delete )", pages)
    script = script[script.index("kubectl create namespace demo") :]
    script = re.sub(r"(?m)^(?:kubectl .*(?:condition=Ready|port-forward)|curl |  -H |  \{).*\n", "", script)
    shown = (ROOT / "docs" / "troubleshooting.md").read_text()
    asked = [one for one in re.findall(r"kubectl -[^`\n]+", shown) if not re.search(r"port-forward| logs ", one)]
    assert len(asked) >= 9
    remove = re.sub(r"(?m)^make .*\n", "", remove)
    said = said_by("\n".join([script, *asked, remove]), kubeconfig, tmp_path)
    assert "mcpremoteendpoint.toolhive.stacklok.dev/first created" in said
    assert "kind: NetworkPolicy" in said
    assert "every generated object is up to date" in said
    assert 'namespace "demo" deleted' in said


def test_the_manager_works_with_no_more_rights_than_its_role_gives(demo, kubeconfig):
    manager = next(
        child
        for child in psutil.Process(demo.process.pid).children()
        if any("manager.py" in a for a in child.cmdline())
    )
    (own,) = (a.partition("=")[2] for a in manager.cmdline() if a.startswith("--kubeconfig="))
    kubectl = str(ensure().path(KUBECTL))
    answer = subprocess.run(
        [kubectl, "--cache-dir=/dev/null", "auth", "can-i", "delete", "namespaces"],
        env=os.environ | {"KUBECONFIG": own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout.strip() == "no"


def test_ctrl_c_ends_it_and_leaves_neither_process_nor_file(demo, kubeconfig):
    children = psutil.Process(demo.process.pid).children(recursive=True)
    assert len(children) == 4, "etcd, kube-apiserver, kube-controller-manager, manager"
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    demo.until("==> stopping")
    assert "Traceback" not in "".join(demo.lines + demo.rest())
    assert psutil.wait_procs(children, timeout=1)[1] == []
    assert not kubeconfig.parent.exists()
