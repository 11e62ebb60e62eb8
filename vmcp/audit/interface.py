"""One line per request, for those who must know later who did what: the event and the log that takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from vmcp.auth.interface import Principal


class EventType(StrEnum):
    """What kind of request it was. Values are ToolHive's, so that existing filters keep working."""

    INITIALIZE = "mcp_initialize"
    TOOL_CALL = "mcp_tool_call"
    TOOLS_LIST = "mcp_tools_list"
    RESOURCE_READ = "mcp_resource_read"
    RESOURCES_LIST = "mcp_resources_list"
    PROMPT_GET = "mcp_prompt_get"
    PROMPTS_LIST = "mcp_prompts_list"
    NOTIFICATION = "mcp_notification"
    PING = "mcp_ping"
    LOGGING = "mcp_logging"
    COMPLETION = "mcp_completion"
    ROOTS_LIST_CHANGED = "mcp_roots_list_changed"
    SSE_CONNECTION = "sse_connection"
    REQUEST = "mcp_request"
    HTTP_REQUEST = "http_request"


METHOD_EVENTS: dict[str, EventType] = {
    "initialize": EventType.INITIALIZE,
    "server/discover": EventType.INITIALIZE,
    "tools/call": EventType.TOOL_CALL,
    "tools/list": EventType.TOOLS_LIST,
    "resources/read": EventType.RESOURCE_READ,
    "resources/list": EventType.RESOURCES_LIST,
    "resources/templates/list": EventType.RESOURCES_LIST,
    "prompts/get": EventType.PROMPT_GET,
    "prompts/list": EventType.PROMPTS_LIST,
    "ping": EventType.PING,
    "logging/setLevel": EventType.LOGGING,
    "completion/complete": EventType.COMPLETION,
    "notifications/roots/list_changed": EventType.ROOTS_LIST_CHANGED,
}


def event_type(method: str) -> EventType:
    """Return the event type of an MCP method."""
    found = METHOD_EVENTS.get(method)
    if found is not None:
        return found
    return EventType.NOTIFICATION if method.startswith("notifications/") else EventType.REQUEST


class AuditResult(StrEnum):
    """How a request ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    """A fault of the client's: malformed, unknown name, unauthenticated, rate limited."""
    ERROR = "error"
    """A fault of ours or of a backend."""
    DENIED = "denied"
    """Policy said no."""
    APPLICATION_ERROR = "application_error"
    """The tool ran and reported `isError`."""


@dataclass(slots=True)
class AuditEvent:
    """What is known about one request when it ends. Fields that do not apply stay None.

    Attributes:
        type: The kind of request.
        outcome: How it ended.
        principal: Who asked; None before authentication succeeded.
        method: The MCP method, or the HTTP method where it was no MCP request.
        name: Tool name, resource URI or prompt name, as advertised.
        request_id: The JSON-RPC id, as text.
        session_id: Of legacy sessions; the log keeps only a short digest, for the id is a credential.
        client_ip: Peer address.
        user_agent: From the header, cut at 256 characters.
        era: `legacy` or `modern`.
        status: HTTP status sent to the client.
        duration_ms: From the first byte of the request's body to the end of the answer.
        trace_id: W3C trace id, 32 hex digits.
        backend: Name of the backend that was asked.
        backend_tool: Its own name for the item.
        remote_url: Of direct backends: without userinfo, query and fragment.
        auth_method: Of direct backends: the outgoing strategy.
        remote_status: Of direct backends: the remote's HTTP status.
        error: What went wrong, without secrets.
        request_data: Raw params; used only when includeRequestData is set.
        response_data: Raw result; used only when includeResponseData is set.
    """

    type: EventType
    outcome: AuditResult
    principal: Principal | None = None
    method: str = ""
    name: str | None = None
    request_id: str | None = None
    session_id: str | None = field(default=None, repr=False)
    client_ip: str | None = None
    user_agent: str | None = None
    era: str | None = None
    status: int | None = None
    duration_ms: float | None = None
    trace_id: str | None = None
    backend: str | None = None
    backend_tool: str | None = None
    remote_url: str | None = None
    auth_method: str | None = None
    remote_status: int | None = None
    error: str | None = None
    request_data: bytes | None = field(default=None, repr=False)
    response_data: bytes | None = field(default=None, repr=False)


class AuditLog(Protocol):
    """Takes events without blocking."""

    enabled: bool
    """False = `write` does nothing; lets the hot path skip building the event."""

    def write(self, event: AuditEvent) -> None:
        """Queue the event. Never raises, never waits; what does not fit is counted as dropped."""
        ...

    def close(self) -> None:
        """Write what is queued and close the file, within two seconds."""
        ...
