"""Runs exec credential plugins: a foreign program, so with a limit of time and of output.

The library waits for a plugin for ever (one that asks for a password on a terminal that is not there, one whose own
network hangs), and reads its output stream by stream, which ends in a deadlock when the other one fills up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import Any

LIMIT = 60.0
"""Seconds for one run. A plugin refreshes a token over the network; one that opens a browser has no place here."""
MAX_OUTPUT = 1024 * 1024
"""Bytes of standard output and of standard error."""


class PluginError(Exception):
    """The plugin gave no credentials. The message holds nothing of its output, where tokens may be."""


async def run_plugin(arguments: list[str], environ: dict[str, str], api_version: str) -> dict[str, Any]:
    """Run a plugin and return the `status` of its ExecCredential (client.authentication.k8s.io).

    Args:
        arguments: command and arguments.
        environ: its environment.
        api_version: what it must answer in.

    Raises:
        PluginError: it cannot be run, fails, hangs, or answers with something else.
    """
    request = {"apiVersion": api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environ = environ | {"KUBERNETES_EXEC_INFO": json.dumps(request)}
    name = os.path.basename(arguments[0])  # noqa: PTH119  a name, no path that is opened
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_OUTPUT,
            start_new_session=True,  # so that what it started itself ends with it
        )
    except OSError as error:
        raise PluginError(f"exec: {name} cannot be run: {os.strerror(error.errno or 0).lower()}") from error
    try:
        async with asyncio.timeout(LIMIT):
            assert process.stdout is not None
            assert process.stderr is not None
            output, _ = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError:
        raise PluginError(f"exec: {name} did not answer within {LIMIT:.0f} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code != 0:
        raise PluginError(f"exec: {name} failed with exit code {code}")
    return _status(name, output, api_version)


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; what is too much is read and dropped, or the program would wait for us."""
    kept = bytearray()
    while chunk := await stream.read(64 * 1024):
        if len(kept) <= MAX_OUTPUT:
            kept += chunk
    return bytes(kept)


def _status(name: str, output: bytes, api_version: str) -> dict[str, Any]:
    if len(output) > MAX_OUTPUT:
        raise PluginError(f"exec: {name} wrote more than {MAX_OUTPUT >> 20} MiB")
    try:
        answer = json.loads(output)
    except ValueError:
        raise PluginError(f"exec: {name} did not answer with JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("status"), dict):
        raise PluginError(f"exec: {name} did not answer with an ExecCredential that has a status")
    if answer.get("apiVersion") != api_version:
        raise PluginError(f"exec: {name} answered in another version than {api_version}")
    status: dict[str, Any] = answer["status"]
    return status
