"""The programs of a node: built once from Go modules, beside the control plane's."""

from __future__ import annotations

import shutil
from pathlib import Path

from hack.cluster.layout import Layout
from hack.controlplane import builder
from hack.controlplane.binaries import ensure
from hack.controlplane.builder import Program
from hack.controlplane.programs import Binaries, BinariesError, Say, kubernetes_version, module_version

_MODULES = Path(__file__).with_name("gomodule")
_CONTAINERD = "github.com/containerd/containerd/v2"
_TAGS = "no_btrfs,no_devmapper,no_zfs,no_aufs"

KUBELET, SCHEDULER, PROXY = "kubelet", "kube-scheduler", "kube-proxy"
CONTAINERD, SHIM, CTR, COREDNS = "containerd", "containerd-shim-runc-v2", "ctr", "coredns"


def _programs() -> tuple[Program, ...]:
    version = module_version(_MODULES / "containerd", _CONTAINERD)
    stamp = f"-X {_CONTAINERD}/version.Version=v{version}"

    def of_containerd(name: str, seconds: int) -> Program:
        module = _MODULES / "containerd"
        return Program(name, f"{_CONTAINERD}/cmd/{name}", seconds, module, _TAGS, linker_flags=stamp)

    return (
        Program(KUBELET, "k8s.io/kubernetes/cmd/kubelet", 90),
        Program(SCHEDULER, "k8s.io/kubernetes/cmd/kube-scheduler", 20),
        Program(PROXY, "k8s.io/kubernetes/cmd/kube-proxy", 20),
        of_containerd(CONTAINERD, 120),
        of_containerd(SHIM, 5),
        of_containerd(CTR, 15),
        Program(COREDNS, ".", 70, module=_MODULES / "coredns", linker_flags=""),
    )


def ensure_programs(layout: Layout, say: Say) -> Binaries:
    """Find or build everything that runs on a node; return where the control plane's programs are.

    The directory carries the versions, so that an update of go.mod builds anew.

    Raises:
        BinariesError: there is no Go, or a build failed.
    """
    control_plane = ensure(say)
    current = layout.bin / ".versions"
    wanted = "\n".join((program.module / "go.mod").read_text(encoding="utf-8") for program in _programs())
    if current.exists() and current.read_text() == wanted and all((layout.bin / p.name).exists() for p in _programs()):
        return control_plane
    go = shutil.which("go")
    if go is None:
        raise BinariesError("no `go` in PATH: a node's programs are built from Go modules (Go 1.26 or newer)")
    if current.exists() and current.read_text() != wanted:
        shutil.rmtree(layout.bin)
    builder.build(go, layout.bin, say, _programs(), what=f"the node's programs for Kubernetes {kubernetes_version()}")
    current.write_text(wanted)
    return control_plane
