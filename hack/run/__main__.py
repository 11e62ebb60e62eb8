"""The command line of the demo: `python -m hack.run --help`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import yaml

from hack.controlplane import BinariesError, ControlPlane, Kube, KubectlError, KubeError, Options, ProcessError, ensure
from hack.controlplane.handle import run
from hack.controlplane.programs import KUBECTL
from hack.run.expect import Expectation, SampleError, expectations, read_table
from hack.run.operator import ROOT, Manager, configurations, install, rendered
from hack.run.view import Follower

NAMESPACE = "samples"
TIMEOUT = 60.0


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns 0, or 1 when something is not as expected or did not start."""
    arguments = _parser().parse_args(argv)
    # All end it as Ctrl-C does. SIGINT itself, too: a shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return run_check(arguments) if arguments.check_only else run_demo(once=arguments.once)
    except KeyboardInterrupt:
        return 0 if not arguments.once else 130
    except (BinariesError, ProcessError, KubectlError, KubeError, SampleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.run", description="The operator and its samples, locally.")
    parser.add_argument("--once", action="store_true", help="check every sample's state, then exit with 0 or 1")
    check = parser.add_argument_group("against an existing cluster")
    check.add_argument("--check-only", action="store_true", help="only check samples that somebody applied")
    check.add_argument("--kubeconfig", type=Path, help="with embedded certificates, as kind writes it")
    check.add_argument("--namespace", default=NAMESPACE, help="of the samples (default: %(default)s)")
    check.add_argument("--ignore-kind", action="append", default=[], help="do not check this kind; may be repeated")
    return parser


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # handled by asyncio while it runs: it cancels cleanly


def run_check(arguments: argparse.Namespace) -> int:
    """Check the samples in an existing cluster."""
    if arguments.kubeconfig is None:
        print("error: --check-only needs --kubeconfig", file=sys.stderr)
        return 2
    samples = ROOT / "config" / "samples"
    files = yaml.safe_load((samples / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    documents = [body for file in files for body in yaml.safe_load_all((samples / file).read_text(encoding="utf-8"))]
    expected = expectations((body for body in documents if body["kind"] not in arguments.ignore_kind), read_table())
    return run(_check(arguments.kubeconfig, arguments.namespace, expected))


async def _check(kubeconfig: Path, namespace: str, expected: list[Expectation]) -> int:
    async with Kube(kubeconfig) as kube, _following(kube, namespace, expected) as follower:
        settled = await follower.settled(TIMEOUT)
        print(*follower.table(), sep="\n")
        return 0 if settled else 1


def run_demo(*, once: bool) -> int:
    """Bring everything up, show it, and take everything down again."""
    ensure(_say)
    _say("==> starting etcd, kube-apiserver, kube-controller-manager (usually 5 s)")
    start = time.monotonic()
    with ControlPlane(Options(controllers=("*",), crds=(ROOT / "config" / "crd" / "bases",))) as plane:
        handle = plane.handle
        _say(f"    ready after {time.monotonic() - start:.1f} s, CRDs installed")
        samples, installation = rendered(handle, "samples"), rendered(handle, "default")
        _say("==> starting the manager as the service account of config/default (usually 2 s)")
        start = time.monotonic()
        manager = Manager(handle, *run(_install(handle.kubeconfig, installation)))
        try:
            manager.start()
            _say(f"    ready after {time.monotonic() - start:.1f} s, its log: {manager.process.log}")
            handle.kubectl("create", "namespace", NAMESPACE)
            return asyncio.run(_show(plane, manager, expectations(samples, read_table()), once=once))
        finally:
            _say("==> stopping")
            manager.process.stop(timeout=30)


async def _install(kubeconfig: Path, objects: list[dict[str, object]]) -> tuple[str, str]:
    async with Kube(kubeconfig) as kube:
        return await install(kube, objects)


async def _show(plane: ControlPlane, manager: Manager, expected: list[Expectation], *, once: bool) -> int:
    handle = plane.handle
    async with Kube(handle.kubeconfig) as kube, _following(kube, NAMESPACE, expected) as follower:
        _say(f"==> applying config/samples to the namespace {NAMESPACE}")
        samples = ROOT / "config" / "samples"
        await asyncio.to_thread(handle.kubectl, "apply", "-n", NAMESPACE, "-k", str(samples))
        settled = await _settle(follower, manager)
        print("", *follower.table(), sep="\n")
        generated = configurations(await kube.list("v1", "ConfigMap", namespace=NAMESPACE))
        for name, text in sorted(generated.items()):
            print(
                f"\n# the generated configuration of the gateway {name} (ConfigMap {name}-vmcp-config)\n{text}", end=""
            )
        gateways = {e.name for e in expected if e.kind == "VirtualMCPServer" and e.phase != "Failed"}
        if missing := gateways - generated.keys():
            print(f"\nNOT AS EXPECTED: no configuration was generated for {', '.join(sorted(missing))}")
        passed = settled and not missing
        print(f"\n{len(expected)} samples: " + ("all as expected" if passed else "NOT all as expected"), flush=True)
        if not passed and manager.process.running:
            _say(f"the end of the manager's log:\n{manager.process.log_tail()}")
        if not once:
            await _stay(plane, manager)
        return 0 if passed else 1


async def _settle(follower: Follower, manager: Manager) -> bool:
    """Wait for the samples, or for the end of the manager, whichever comes first."""
    settled = asyncio.create_task(follower.settled(TIMEOUT))
    ended = asyncio.create_task(_ended(manager))
    await asyncio.wait({settled, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not settled.done():
        settled.cancel()
        raise ProcessError(f"the manager ended with status {manager.process.returncode}:\n{manager.process.log_tail()}")
    return settled.result()


async def _ended(manager: Manager) -> None:
    while manager.process.running:  # noqa: ASYNC110  a process's end is polled
        await asyncio.sleep(0.2)


async def _stay(plane: ControlPlane, manager: Manager) -> None:
    """Say how to play with it, then go on printing changes until Ctrl-C."""
    _say("\n==> it stays up until Ctrl-C; changes go on being shown. In another terminal:\n")
    _say(f"    export KUBECONFIG={plane.handle.kubeconfig}")
    if shutil.which(KUBECTL) is None:
        _say(f"    export PATH=$PATH:{plane.handle.kubectl_path.parent}")
    _say(f"    kubectl get toolhive -n {NAMESPACE}\n")
    await _ended(manager)
    raise ProcessError(f"the manager ended with status {manager.process.returncode}:\n{manager.process.log_tail()}")


@contextlib.asynccontextmanager
async def _following(kube: Kube, namespace: str, expected: list[Expectation]) -> AsyncIterator[Follower]:
    follower = Follower(kube, namespace, expected)
    task = asyncio.create_task(follower.follow())
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
