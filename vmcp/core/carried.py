"""What of a client's abilities backends are told: those that the gateway carries, and no more.

Tasks are not served: a backend that heard of them would answer a call with a task that its client could never ask for
again. So the capability (2025-11-25: `tasks`; 2026-07-28: an extension) goes no further than here, and neither does the
`task` member of a call, which a receiver without the capability has to ignore (2025-11-25, basic/utilities/tasks).
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from vmcp.wire.jsonrpc import fields, join

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
_SPELLINGS: Final = (TASKS_EXTENSION.encode(), TASKS_EXTENSION.replace("/", "\\/").encode())


def carried_capabilities(capabilities: bytes) -> bytes:
    """Return a client's capabilities (a raw JSON object) without those that are not carried."""
    if b"tasks" not in capabilities:
        return capabilities
    members = fields(capabilities)
    members.pop("tasks", None)
    extensions = fields(members.get("extensions"))
    if extensions.pop(TASKS_EXTENSION, None) is not None:
        members["extensions"] = Raw(join(extensions))
    return join(members)


def without_task(params: bytes) -> bytes:
    """Return the params of a call without what asks for a task."""
    members = fields(params)
    return params if members.pop("task", None) is None else join(members)


def asks_for_tasks(params: bytes) -> bool:
    """Say whether the params of a modern request may declare tasks in their envelope."""
    return b"/tasks" in params and any(spelling in params for spelling in _SPELLINGS)
