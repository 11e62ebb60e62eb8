"""The command lines of the three servers, and how each says that it is ready."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Sequence
from pathlib import Path

from hack.controlplane.pki import Authority, service_account_key
from hack.controlplane.process import LOOPBACK, ManagedProcess, free_port
from hack.controlplane.programs import APISERVER, CONTROLLER_MANAGER, ETCD, Binaries

SERVICE_CIDR = "10.96.0.0/12"
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: {level}
"""


class Etcd:
    """etcd without fsync: its data lives as long as the run."""

    def __init__(self, binaries: Binaries, directory: Path, *, progress_notifications: bool) -> None:
        self.port, peer = free_port(), free_port()
        self.url, peer_url = f"http://{LOOPBACK}:{self.port}", f"http://{LOOPBACK}:{peer}"
        command = [
            str(binaries.path(ETCD)),
            "--name=default",
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync=true",
            f"--quota-backend-bytes={8 << 30}",
            "--log-level=warn",
        ]
        if progress_notifications:
            # As kubeadm starts it: without, the API server sends quiet kinds no bookmark for more than a minute.
            command.append("--watch-progress-notify-interval=5s")
        self.process = ManagedProcess(ETCD, command, directory / "logs" / "etcd.log")

    def ready(self) -> bool:
        """Whether it answers on /health."""
        return _answers(http.client.HTTPConnection(LOOPBACK, self.port, timeout=2), "/health")


class ApiServer:
    """kube-apiserver with RBAC, client certificates and service account tokens."""

    def __init__(
        self,
        binaries: Binaries,
        directory: Path,
        authority: Authority,
        etcd: Etcd,
        *,
        audit: str | None,
        service_accounts: bool,
        extra: Sequence[str],
    ) -> None:
        self.port = free_port()
        self.url = f"https://{LOOPBACK}:{self.port}"
        pki = directory / "pki"
        names = ("localhost", LOOPBACK, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1")
        certificate, key = authority.server("kube-apiserver", names).write(pki, "apiserver")
        self.signing_key, public_key = service_account_key(pki)
        command = [
            str(binaries.path(APISERVER)),
            f"--etcd-servers={etcd.url}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            f"--cert-dir={pki}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={authority.certificate_file}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public_key}",
            f"--service-account-signing-key-file={self.signing_key}",
            "--endpoint-reconciler-type=none",  # it would publish a loopback address and be refused, once a minute
        ]
        if not service_accounts:
            # Nobody makes the default ServiceAccount of a namespace without its controller: every pod would be refused.
            command.append("--disable-admission-plugins=ServiceAccount")
        self.audit_log = directory / "audit.log" if audit else None
        if audit:
            policy = directory / "audit-policy.yaml"
            policy.write_text(AUDIT_POLICY.format(level=audit), encoding="utf-8")
            command += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
            # Left at 0 it begins a new file after 100 MB, and whoever counts requests loses the old one.
            command += [f"--audit-log-maxsize={1 << 20}"]
        self.process = ManagedProcess(APISERVER, [*command, *extra], directory / "logs" / "kube-apiserver.log")
        self._tls = ssl.create_default_context(cafile=str(authority.certificate_file))

    def ready(self) -> bool:
        """Whether /readyz says ok: storage, built-in RBAC roles and namespaces are there."""
        return _answers(http.client.HTTPSConnection(LOOPBACK, self.port, timeout=5, context=self._tls), "/readyz")


class ControllerManager:
    """kube-controller-manager: garbage collection, namespace deletion, and whatever else was asked for."""

    def __init__(
        self,
        binaries: Binaries,
        directory: Path,
        authority: Authority,
        apiserver: ApiServer,
        *,
        kubeconfig: Path,
        controllers: Sequence[str],
    ) -> None:
        self.port = free_port()
        pki = directory / "pki"
        certificate, key = authority.server("kube-controller-manager", ("localhost", LOOPBACK)).write(pki, "kcm")
        command = [
            str(binaries.path(CONTROLLER_MANAGER)),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--root-ca-file={authority.certificate_file}",
            f"--service-account-private-key-file={apiserver.signing_key}",
            f"--controllers={','.join(controllers)}",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]
        self.process = ManagedProcess(CONTROLLER_MANAGER, command, directory / "logs" / "kube-controller-manager.log")
        self._tls = ssl.create_default_context(cafile=str(authority.certificate_file))

    def ready(self) -> bool:
        """Whether it answers on /healthz: its controllers were started."""
        return _answers(http.client.HTTPSConnection(LOOPBACK, self.port, timeout=5, context=self._tls), "/healthz")


def _answers(connection: http.client.HTTPConnection, path: str) -> bool:
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
