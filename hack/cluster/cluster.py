"""Up and down: the order in which a node comes to life, and in which every trace of it goes."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from hack.cluster import daemons, network
from hack.cluster.daemons import Daemon, DaemonError
from hack.cluster.files import write_configuration, write_pki
from hack.cluster.images import Images
from hack.cluster.layout import (
    API_PORT,
    API_SERVICE_IP,
    CLUSTER_DOMAIN,
    DNS_SERVICE_IP,
    DOCKERFILES,
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE,
    NODE_IP,
    REPOSITORY,
    SERVICE_NETWORK,
    Layout,
)
from hack.cluster.programs import CONTAINERD, CTR, KUBELET, PROXY, SCHEDULER, SHIM, ensure_programs
from hack.controlplane.programs import APISERVER, CONTROLLER_MANAGER, ETCD, KUBECTL, Binaries, Say

_STARTED = (ETCD, CONTAINERD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KUBELET, PROXY)
_OUTSIDE = ("/var/lib/kubelet", "/run/containerd", "/var/lib/cni", "/var/log/containers", "/run/netns", "/run/nri")
"""Fixed paths that kubelet, containerd and the CNI plugins use outside of the cluster's directory."""


class Cluster:
    """The one cluster of this machine.

    Args:
        layout: where it is kept.
        say: gets a line per step.
    """

    def __init__(self, layout: Layout, say: Say) -> None:
        self._layout = layout
        self._say = say

    def up(self) -> None:
        """Start what does not run, and wait until pods can be scheduled and names resolved.

        Raises:
            BinariesError, ImageError: something could not be built.
            DaemonError: a daemon did not become ready.
        """
        layout, started = self._layout, time.monotonic()
        binaries = ensure_programs(layout, self._say)
        archives = [Images(layout, self._say).pause(), Images(layout, self._say).coredns()]
        for directory in (layout.state, layout.run, layout.logs):
            directory.mkdir(parents=True, exist_ok=True)
        self._note_paths_outside()
        write_pki(layout)
        write_configuration(layout, shutil.which("runc") or "/usr/sbin/runc")
        network.up(layout)
        self._control_plane(binaries)
        self._say(f"    API server after {time.monotonic() - started:.1f} s")
        self.load(archives)
        self._node()
        self._say(f"    node Ready and DNS after {time.monotonic() - started:.1f} s")

    def load(self, archives: Iterable[Path]) -> None:
        """Import images that the node does not have yet."""
        for archive in archives:
            mark = self._layout.state / f"imported.{archive.stem}"
            if mark.exists() and mark.stat().st_mtime >= archive.stat().st_mtime:
                continue
            self._ctr("images", "import", "--local", str(archive))
            mark.touch()

    def load_own_images(self) -> None:
        """Build the images of operator, gateway and SDK from their Dockerfiles, and import them."""
        images = Images(self._layout, self._say)
        for image, dockerfile in DOCKERFILES.items():
            start = time.monotonic()
            archive = images.from_dockerfile(REPOSITORY / dockerfile, image)
            built = time.monotonic()
            self.load([archive])
            self._say(f"    {image}: built in {built - start:.1f} s, imported in {time.monotonic() - built:.1f} s")

    def down(self) -> None:
        """Stop everything and undo every trace outside of the cluster's directory; programs and images are kept.

        Each step goes on where the one before failed: this is what is called after a crash.
        """
        layout = self._layout
        for name in (PROXY, KUBELET, SCHEDULER, CONTROLLER_MANAGER):
            daemons.stop(layout, name)
        self._end_containers()
        for name in (APISERVER, ETCD, CONTAINERD):
            daemons.stop(layout, name)
        self._end_shims()
        self._unmount()
        network.down(layout)
        self._remove_control_groups()
        self._remove_paths_outside()
        for directory in (layout.state, layout.run):
            shutil.rmtree(directory, ignore_errors=True)

    def status(self) -> list[str]:
        """Return a line per daemon."""
        found = ((name, daemons.running(self._layout, name)) for name in _STARTED)
        return [f"{name}: {'down' if pid is None else f'up, process {pid}'}" for name, pid in found]

    # --- up -----------------------------------------------------------------------------------------------------------

    def _control_plane(self, binaries: Binaries) -> None:
        state, pki = self._layout.state, self._layout.pki
        etcd, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"
        self._start(
            binaries.path(ETCD),
            f"--data-dir={state}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync=true",
            "--watch-progress-notify-interval=5s",  # as kubeadm does
        )
        self._start(self._layout.bin / CONTAINERD, "--config", f"{state}/containerd.toml")
        server = self._start(
            binaries.path(APISERVER),
            f"--etcd-servers={etcd}",
            f"--bind-address={NODE_IP}",
            f"--advertise-address={NODE_IP}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
            f"--service-account-key-file={pki}/service-account.pub",
            f"--service-account-signing-key-file={pki}/service-account.key",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
        )
        server.wait(lambda: self._kubectl_says("get", "--raw", "/readyz") is not None, "the API server is ready")
        kubeconfig = f"{state}/{CONTROLLER_MANAGER}.kubeconfig"
        self._start(
            binaries.path(CONTROLLER_MANAGER),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            "--secure-port=20257",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={pki}/service-account.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            "--leader-elect=false",
            f"--flex-volume-plugin-dir={state}/volume-plugins",
        )
        kubeconfig = f"{state}/{SCHEDULER}.kubeconfig"
        self._start(
            self._layout.bin / SCHEDULER,
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            "--secure-port=20259",
            "--leader-elect=false",
        )
        runtime = Daemon(self._layout.bin / CONTAINERD, (), self._layout)
        runtime.wait(lambda: self._ctr_says("version") is not None, "containerd answers")

    def _node(self) -> None:
        state = self._layout.state
        since = "" if daemons.running(self._layout, KUBELET) else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kubelet = self._start(
            self._layout.bin / KUBELET,
            f"--config={state}/kubelet.yaml",
            f"--kubeconfig={state}/{KUBELET}.kubeconfig",
            f"--root-dir={state}/kubelet",
            f"--cert-dir={state}/kubelet-pki",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}",
        )
        proxy = self._start(self._layout.bin / PROXY, f"--config={state}/kube-proxy.yaml")
        self._kubectl("apply", "-f", str(Path(__file__).with_name("dns.yaml")))
        # After a restart the conditions are those of before: only a heartbeat of this kubelet counts.
        kubelet.wait(lambda: self._heartbeat() >= (since or "0"), "the node is Ready")
        proxy.wait(_resolves, f"{DNS_SERVICE_IP} resolves names")

    def _heartbeat(self) -> str:
        path = 'jsonpath={.status.conditions[?(@.status=="True")].lastHeartbeatTime}'
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        if self._kubectl_says("get", "node", NODE, "-o", ready) != "True":
            return ""
        return self._kubectl_says("get", "node", NODE, "-o", path) or ""

    def _start(self, program: Path, *arguments: str) -> Daemon:
        daemon = Daemon(program, arguments, self._layout)
        daemon.start()
        return daemon

    # --- down ---------------------------------------------------------------------------------------------------------

    def _end_containers(self) -> None:
        """Pods outlive kubelet: end every task, then remove every container."""
        if daemons.running(self._layout, CONTAINERD) is None:
            return
        for _ in range(3):
            tasks = (self._ctr_says("tasks", "ls", "-q") or "").split()
            if not tasks:
                break
            for task in tasks:
                self._ctr_says("tasks", "kill", "--all", "--signal", "SIGKILL", task)
            time.sleep(0.5)  # the kernel needs a moment to end them
            for task in tasks:
                self._ctr_says("tasks", "rm", "--force", task)
        for container in (self._ctr_says("containers", "ls", "-q") or "").split():
            self._ctr_says("containers", "rm", container)

    def _end_shims(self) -> None:
        for command in (["kill"], ["kill", "-9"]):
            shims = daemons.processes_of(self._layout.bin / SHIM)
            if not shims:
                return
            subprocess.run([*command, *map(str, shims)], check=False, stderr=subprocess.DEVNULL)
            time.sleep(0.3)

    def _unmount(self) -> None:
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        ours = [place for place in mounted if place.startswith(f"{self._layout.root}/")]
        if (self._layout.state / "cni-addresses").exists():  # network namespaces that containerd bound for this cluster
            ours += [place for place in mounted if place.startswith("/run/netns/cni-")]
        for place in sorted(ours, reverse=True):
            subprocess.run(["umount", "--lazy", place], check=False, stderr=subprocess.DEVNULL)
            if place.startswith("/run/netns/"):
                Path(place).unlink(missing_ok=True)

    def _remove_control_groups(self) -> None:
        for group in (*Path("/sys/fs/cgroup").glob("*/kubepods"), Path("/sys/fs/cgroup/kubepods")):
            for directory in sorted((group, *group.rglob("*")), reverse=True):
                if directory.is_dir():
                    with contextlib.suppress(OSError):  # gone, or still somebody's
                        directory.rmdir()

    def _note_paths_outside(self) -> None:
        note = self._layout.state / "paths.before"
        if not note.exists():
            note.write_text("\n".join(path for path in _OUTSIDE if Path(path).exists()))

    def _remove_paths_outside(self) -> None:
        note = self._layout.state / "paths.before"
        if not note.exists():
            return
        before = set(note.read_text().splitlines())
        mounted = Path("/proc/mounts").read_text()
        for path in _OUTSIDE:
            if path not in before and f" {path}" not in mounted:
                shutil.rmtree(path, ignore_errors=True)

    # --- tools --------------------------------------------------------------------------------------------------------

    def _ctr(self, *arguments: str) -> None:
        command = [str(self._layout.bin / CTR), "-a", str(self._layout.containerd_socket), "-n", "k8s.io", *arguments]
        done = subprocess.run(command, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise DaemonError(f"ctr {' '.join(arguments)} failed:\n{done.stdout[-1000:]}")

    def _ctr_says(self, *arguments: str) -> str | None:
        command = [str(self._layout.bin / CTR), "-a", str(self._layout.containerd_socket), "-n", "k8s.io", *arguments]
        return _says(command)

    def _kubectl(self, *arguments: str) -> None:
        command = [str(self._kubectl_path()), f"--kubeconfig={self._layout.kubeconfig}", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _kubectl_says(self, *arguments: str) -> str | None:
        return _says([str(self._kubectl_path()), f"--kubeconfig={self._layout.kubeconfig}", *arguments])

    def _kubectl_path(self) -> Path:
        return ensure_programs(self._layout, self._say).path(KUBECTL)


def _says(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, text=True, check=False, timeout=30, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _resolves() -> bool:
    """Ask the cluster's DNS server for the API server's name."""
    name = f"kubernetes.default.svc.{CLUSTER_DOMAIN}"
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.settimeout(1)
        try:
            asked.sendto(query, (DNS_SERVICE_IP, 53))
            answer = asked.recv(512)
        except OSError:
            return False
    return answer[3] & 15 == 0 and socket.inet_aton(API_SERVICE_IP) in answer
