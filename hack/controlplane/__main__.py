"""The command line: `python -m hack.controlplane --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args, get_type_hints

from hack.controlplane import shared
from hack.controlplane.binaries import ensure
from hack.controlplane.handle import Handle, KubectlError
from hack.controlplane.plane import ControlPlane, Options
from hack.controlplane.process import ProcessError
from hack.controlplane.programs import BinariesError, kubernetes_version, releases

DEFAULT_DIRECTORY = shared.ROOT / ".run" / "controlplane"


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m hack.controlplane",
        description=f"Kubernetes {kubernetes_version()} without nodes: etcd, kube-apiserver, kube-controller-manager.",
    )
    commands = top.add_subparsers(dest="command", required=True)

    binaries = commands.add_parser("binaries", help="find or build the programs and print their directory")
    binaries.add_argument(
        "--kubernetes",
        choices=releases(),
        default=list(releases())[-1],
        help="of which minor version; older ones than the default are for the tests only (default: %(default)s)",
    )
    choice = binaries.add_mutually_exclusive_group()
    choice.add_argument("--download", action="store_true", default=None, help="try the official envtest archive first")
    choice.add_argument("--no-download", dest="download", action="store_false", help="never try the archive")

    up = commands.add_parser("up", help="start a control plane and print its KUBECONFIG; runs until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return when it is up; `down` stops it")
    up.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="where to keep it (default: %(default)s)")
    _add_options(up)

    down = commands.add_parser("down", help="stop a detached control plane")
    down.add_argument(
        "--directory", type=Path, default=DEFAULT_DIRECTORY, help="where it is kept (default: %(default)s)"
    )

    install = commands.add_parser("install-crds", help="install definitions into a detached control plane")
    install.add_argument(
        "--directory", type=Path, default=DEFAULT_DIRECTORY, help="where it is kept (default: %(default)s)"
    )
    install.add_argument("paths", type=Path, nargs="+", help="files or directories")

    serve = commands.add_parser("serve", help="what `up --detach` and pytest run in the background")
    serve.add_argument("--directory", type=Path, required=True)
    serve.add_argument("--owner", type=Path, help="end when the lock on this file becomes free")
    _add_options(serve)
    return top


def _add_options(command: argparse.ArgumentParser) -> None:
    levels = get_args(get_args(get_type_hints(Options)["audit"])[0])
    command.add_argument(
        "--controllers",
        default="*",
        help="comma list of kube-controller-manager's controllers; '*': its defaults; '': none (default: %(default)s)",
    )
    command.add_argument("--tests", action="store_true", help="as the test suites share it, other options do not count")
    command.add_argument("--audit", choices=levels, help="write an audit log of this level")
    command.add_argument("--crds", type=Path, action="append", default=[], help="install these definitions")


def _options(arguments: argparse.Namespace) -> Options:
    if arguments.tests:
        return shared.test_options()
    return Options(
        controllers=tuple(name for name in arguments.controllers.split(",") if name),
        audit=arguments.audit,
        crds=tuple(arguments.crds),
    )


def _up(arguments: argparse.Namespace) -> None:
    run: Path = arguments.directory
    ensure()
    if arguments.detach:
        run.mkdir(parents=True, exist_ok=True)
        options = [f"--controllers={arguments.controllers}", *(f"--crds={path.resolve()}" for path in arguments.crds)]
        if arguments.tests:
            options.append("--tests")
        if arguments.audit:
            options.append(f"--audit={arguments.audit}")
        _announce(shared.start(run, tuple(options), owner=None))
        return
    done = shared.signalled()
    with ControlPlane(_options(arguments), directory=run / shared.PLANE) as plane:
        _announce(plane.handle)
        print("# Ctrl-C stops it", file=sys.stderr, flush=True)
        done.wait()


def _announce(handle: Handle) -> None:
    print(f"export KUBECONFIG={handle.kubeconfig}", flush=True)
    print(f"export PATH={handle.kubectl_path.parent}:$PATH", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        match arguments.command:
            case "binaries":
                print(ensure(download=arguments.download, module=releases()[arguments.kubernetes]).directory)
            case "up":
                _up(arguments)
            case "down":
                if not shared.stop(arguments.directory):
                    print(f"no control plane in {arguments.directory}", file=sys.stderr)
            case "install-crds":
                for name in Handle.load(arguments.directory / shared.PLANE).install_crds(*arguments.paths):
                    print(name)
            case "serve":
                shared.serve(_options(arguments), directory=arguments.directory, owner=arguments.owner)
    except (BinariesError, ProcessError, KubectlError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        print(f"error: {error.filename} is not there; is the control plane up?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
