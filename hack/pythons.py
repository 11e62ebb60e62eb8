"""Run unit tests on other versions of Python than the one that the rest of the project uses, with the locked packages.

    python -m hack.pythons                                    # 3.12, 3.13 and 3.14: the runtime, TLS, HTTP, addresses
    python -m hack.pythons 3.13 -- tests/unit -n 2            # what follows the dashes goes to pytest

A version that is not on this machine is fetched by uv where that is possible, and otherwise named as skipped; it is an
error if none of them is there. Each one has an environment of its own below `.venv/pythons`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.12", "3.13", "3.14")
"""Beside the one in `.venv`."""
TESTS = ("tests/unit/runtime", "tests/unit/contract", "tests/unit/vmcp/http", "tests/unit/vmcp/auth")
LOCK = ROOT / "locks" / "dev.txt"


def find(version: str) -> Path | None:
    """Return an interpreter of a version ("3.13") that is on this machine and works; None when there is none.

    A shim of pyenv may stand for a version that is not chosen, so pyenv's own directories are looked at, too.
    """
    for candidate in _candidates(version):
        try:
            done = subprocess.run(
                [candidate, "-c", "import ssl, sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    yield from (Path(directory) / name for directory in os.get_exec_path())
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    uv = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "uv" / "python"
    for directory in (pyenv, uv):
        yield from sorted(directory.glob(f"*{version}*/bin/{name}"), reverse=True)


def _fetch(version: str) -> Path | None:
    subprocess.run([_tool("uv"), "python", "install", "--quiet", version], check=False, timeout=600)
    return find(version)


def _environment(version: str, python: Path) -> Path:
    """Return the interpreter of an environment with the locked packages."""
    place = ROOT / ".venv" / "pythons" / version
    inside, stamp = place / "bin" / "python", place / ".locked"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        print(f"==> making {place.relative_to(ROOT)} from {LOCK.relative_to(ROOT)}", flush=True)
        uv = _tool("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, place], check=True)
        subprocess.run([uv, "pip", "sync", "--quiet", "--python", inside, "--require-hashes", LOCK], check=True)
        stamp.write_bytes(LOCK.read_bytes())
    return inside


def _tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def main(argv: list[str] | None = None) -> int:
    """Run the tests; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hack.pythons", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"default: {' '.join(VERSIONS)}")
    arguments = sys.argv[1:] if argv is None else argv
    split = arguments.index("--") if "--" in arguments else len(arguments)
    versions = parser.parse_args(arguments[:split]).versions or VERSIONS
    tests = arguments[split + 1 :] or TESTS
    tried = failed = 0
    for version in versions:
        python = find(version) or _fetch(version)
        if python is None:
            print(f"==> Python {version}: skipped, not on this machine and not to be had", flush=True)
            continue
        tried += 1
        inside = _environment(version, python)
        subprocess.run([inside, "-c", "import ssl, sys; print('==>', sys.version, ssl.OPENSSL_VERSION)"], check=True)
        command = [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        failed += subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    if not tried:
        print(f"error: none of Python {', '.join(versions)} is there", file=sys.stderr)
    return 0 if tried and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
