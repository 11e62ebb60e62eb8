"""A stand-in for the API server that costs nothing to ask: streams prepared objects, then keeps the watch open.

Runs in a process of its own, so that its work is not counted. Prints its port.
"""

from __future__ import annotations

import argparse
import asyncio

import orjson
from aiohttp import web

GROUP, VERSION, PLURAL, KIND = "bench.example.com", "v1", "things", "Thing"
END = {"k8s.io/initial-events-end": "true"}


def thing(number: int, version: int, text: str = "") -> dict[str, object]:
    """One object of about 3 KB, and about 1.4 KB of managedFields on top, as a real one has."""
    fields: dict[str, object] = {f"f:field{at}": {"f:value": {}} for at in range(45)}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": f"thing-{number:06}",
            "namespace": f"team-{number % 20:02}",
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "resourceVersion": str(version),
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/name": "thing", "group": f"group-{number % 100}"},
            "annotations": {"bench.example.com/note": f"number {number}"},
            "managedFields": [
                {"manager": "kubectl", "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}
            ],
        },
        "spec": {
            "groupRef": {"name": f"group-{number % 100}"},
            "url": f"https://thing-{number}.example.com/mcp{text}",
            "headers": [{"name": f"X-Header-{at}", "value": f"value {number}-{at} " + "x" * 60} for at in range(20)],
        },
        "status": {"phase": "Valid", "conditions": [{"type": "Valid", "status": "True", "reason": "Checked"}]},
    }


def line(kind: str, body: object) -> bytes:
    """Return a watch line."""
    return orjson.dumps({"type": kind, "object": body}) + b"\n"


def bookmark(version: int) -> bytes:
    """Return the line that ends the initial objects."""
    return line("BOOKMARK", {"kind": KIND, "metadata": {"resourceVersion": str(version), "annotations": END}})


async def _serve(objects: int) -> None:
    bodies = [thing(number, number + 1) for number in range(objects)]
    stream = b"".join(line("ADDED", body) for body in bodies) + bookmark(objects + 1)
    whole = orjson.dumps(
        {
            "kind": f"{KIND}List",
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": {"resourceVersion": str(objects + 1)},
            "items": bodies,
        }
    )
    del bodies

    async def handle(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.Response(body=whole, content_type="application/json")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        if "sendInitialEvents" in request.query:
            for start in range(0, len(stream), 65536):
                await response.write(stream[start : start + 65536])
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    asyncio.run(_serve(parser.parse_args().objects))
