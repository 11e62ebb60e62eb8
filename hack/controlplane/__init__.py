"""A Kubernetes control plane without nodes, for tests and demo: etcd, kube-apiserver, kube-controller-manager.

From a shell (`python -m hack.controlplane --help`):

    python -m hack.controlplane binaries        # find or build the programs, once; print where they are
    python -m hack.controlplane up              # start; prints `export KUBECONFIG=...`; Ctrl-C stops
    python -m hack.controlplane up --detach     # the same in the background ...
    python -m hack.controlplane down            # ... until this

From Python:

    from hack.controlplane import ControlPlane, GARBAGE_COLLECTION, Kube, Options

    with ControlPlane(Options(controllers=GARBAGE_COLLECTION, crds=(Path("config/crd/bases"),))) as plane:
        kubeconfig = plane.handle.add_user("bob", groups=["developers"])
        plane.handle.kubectl("get", "namespaces")

From tests: the fixtures of `hack.controlplane.pytest_plugin`, which tests/conftest.py registers.

Nothing outlives its owner: the servers get SIGKILL from the kernel when the process that started them dies (Linux), the
shared control plane of a pytest run ends when pytest does, and directories that a killed run left are removed by the
next one.
"""

from hack.controlplane.binaries import ensure
from hack.controlplane.handle import Handle, KubectlError
from hack.controlplane.plane import GARBAGE_COLLECTION, ControlPlane, Options
from hack.controlplane.process import ManagedProcess, ProcessError, free_port
from hack.controlplane.programs import Binaries, BinariesError
from hack.controlplane.rest import Kube, KubeError, Object

__all__ = [
    "GARBAGE_COLLECTION",
    "Binaries",
    "BinariesError",
    "ControlPlane",
    "Handle",
    "Kube",
    "KubeError",
    "KubectlError",
    "ManagedProcess",
    "Object",
    "Options",
    "ProcessError",
    "ensure",
    "free_port",
]
