"""Whether this machine can run the cluster, in words for whoever asked."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

CNI_DIRECTORY = Path("/usr/lib/cni")
_PACKAGE_OF = {
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "gcc": "gcc libc6-dev",
    "sysctl": "procps",
    "unshare": "util-linux",
}
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_SYS_CHROOT": 18, "CAP_MKNOD": 27}


def problem() -> str:
    """Say why the cluster cannot run here; "" when it can."""
    if platform.system() != "Linux":
        return "a cluster needs Linux"
    if os.geteuid() != 0:
        return "a cluster needs root: it makes networks and runs containers"
    held = _effective_capabilities()
    lacking = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    if lacking:
        return f"a cluster needs {', '.join(lacking)}, which this container or user lacks"
    missing = sorted({package for tool, package in _PACKAGE_OF.items() if shutil.which(tool) is None})
    if not (CNI_DIRECTORY / "bridge").exists():
        missing.append("containernetworking-plugins")
    if missing:
        return (
            f"a cluster needs programs that are not here: apt-get install --no-install-recommends {' '.join(missing)}"
        )
    return ""


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
