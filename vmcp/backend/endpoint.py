"""Sends one MCP message to one backend over HTTP and says in our own words what went wrong.

Order of the headers: trace -> identity -> forwarded headers (static, then passthrough) -> auth -> transport. None
replaces one that is there already, with one exception: auth replaces forwarded headers of the same name, because a
stale or smuggled credential must never win.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmcp.auth.interface import UNAUTHENTICATED, AuthUnavailable, BackendAuth, Principal
from vmcp.backend.allowance import Allowance
from vmcp.backend.errors import (
    BackendAuthFailed,
    BackendError,
    BackendOverflow,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from vmcp.backend.settings import BackendSettings, HeaderList
from vmcp.http.client import (
    BadRequest,
    BadResponse,
    HttpClient,
    HttpError,
    HttpTimeout,
    NoRoom,
    Response,
    ResponseTooLarge,
)
from vmcp.trace import TraceContext
from vmcp.wire.protocol import ACCEPT_BOTH, JSON_TYPE, SSE_TYPE

_OWN = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "content-type", "accept", "last-event-id"}
)
"""Names that belong to the transport; the same holds for `mcp-*`."""

POST_HEADERS: HeaderList = (("content-type", JSON_TYPE), ("accept", ACCEPT_BOTH))
GET_HEADERS: HeaderList = (("accept", SSE_TYPE), ("cache-control", "no-store"))
_UNAUTHORIZED = frozenset({401, 403, 407})
_ASKS_FOR_CALLERS = frozenset({401, 403})
"""What servers answer to requests without a token (RFC 6750 section 3.1, and frameworks that say 403)."""


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith("mcp-")


def _one_cookie(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join configured cookies with those of the session: RFC 6265 5.4 allows one header."""
    said = "; ".join(value for name, value in headers if name.lower() == "cookie")
    return [*(pair for pair in headers if pair[0].lower() != "cookie"), ("cookie", said)]


class McpEndpoint:
    """Everything that the requests to one backend share.

    Attributes:
        name: The backend's.
        url: As configured.
        target: Path and query of the MCP endpoint.
        allowance: What the backend's streams may still cost.
        answers: What its large answers may take together.
    """

    def __init__(self, settings: BackendSettings, client: HttpClient, auth: BackendAuth, target: str) -> None:
        self.name = settings.name
        self.url = settings.url
        self.target = target
        self.allowance = Allowance(settings.name)
        self.answers = client.answers
        self._client = client
        self._auth = auth
        self._static = tuple((name, value) for name, value in settings.headers if not _is_own(name.lower()))
        self._bare = auth.method == UNAUTHENTICATED and not self._static
        self._anonymous = False  # our own requests go without credentials, and callers' do not
        self._static_names = frozenset(name.lower() for name, _ in self._static)

    @property
    def auth_method(self) -> str:
        """The strategy's name."""
        return self._auth.method

    async def _headers(
        self,
        principal: Principal | None,
        passthrough: HeaderList,
        trace: TraceContext | None,
        transport: Sequence[tuple[str, str]],
        deadline: float,
    ) -> Sequence[tuple[str, str]]:
        try:
            if principal is None:
                auth = await self._auth.probe_headers(deadline=deadline)
                self._anonymous = not auth and self.auth_method != UNAUTHENTICATED
            else:
                auth = await self._auth.headers(principal, deadline=deadline)
        except AuthUnavailable as err:
            raise BackendAuthFailed(self.name, str(err), sent=False) from err
        if not (passthrough or self._static or auth):
            return transport if trace is None else [*trace.fields(), *transport]
        out: list[tuple[str, str]] = [] if trace is None else list(trace.fields())
        taken = {name for name, _ in out} | {name.lower() for name, _ in auth}
        for name, value in self._static:
            if name.lower() not in taken:
                out.append((name, value))
        taken |= self._static_names
        for name, value in passthrough:
            low = name.lower()
            if low not in taken and not _is_own(low):
                out.append((name, value))
                taken.add(low)
        out.extend(pair for pair in auth if not _is_own(pair[0].lower()))
        out.extend(transport)
        return _one_cookie(out) if "cookie" in taken else out

    async def send(
        self,
        method: str,
        body: bytes | None,
        transport: Sequence[tuple[str, str]],
        *,
        deadline: float,
        principal: Principal | None,
        passthrough: HeaderList = (),
        trace: TraceContext | None = None,
        idempotent: bool = False,
        long_lived: bool = False,
        for_others: bool = False,
        target: str | None = None,
    ) -> Response:
        """Send a request; a 401 is tried once more with fresh credentials, because it was not executed.

        Args:
            method: POST, GET or DELETE.
            body: The message, None = no body.
            transport: Headers of the protocol.
            deadline: Loop time.
            principal: On whose behalf; None = our own probes.
            passthrough: The client's headers for this backend.
            trace: Trace context.
            idempotent: May be repeated when a kept connection died unanswered.
            long_lived: The answer is a stream that stays.
            for_others: Calls under way may be waiting for it.
            target: Another path on the same origin.

        Raises:
            BackendError: No answer, or 401/403/407.
        """
        where = self.target if target is None else target
        for attempt in (0, 1):
            if self._bare and not passthrough and trace is None:
                headers = transport
            else:
                headers = await self._headers(principal, passthrough, trace, transport, deadline)
            try:
                response = await self._client.send(
                    method,
                    where,
                    headers,
                    body,
                    deadline=deadline,
                    idempotent=idempotent,
                    long_lived=long_lived,
                    # Calls that take long say nothing about the backend, so our own probes do not wait for them.
                    for_others=for_others or principal is None,
                )
            except HttpError as err:
                raise self.translate(err) from err
            if response.status not in _UNAUTHORIZED:
                return response
            if response.stream is not None:
                response.stream.close()
            anonymous = principal is None and self._anonymous
            again = response.status == 401 and not anonymous and self._auth.rejected(principal)
            if attempt or not again:
                break
        if anonymous and response.status in _ASKS_FOR_CALLERS:
            reason = f"requires a caller's credentials (HTTP {response.status})"
            raise BackendAuthFailed(self.name, reason, status=response.status, anonymous=True)
        reason = f"refused our credentials (HTTP {response.status})"
        said = response if response.status in _ASKS_FOR_CALLERS else None
        raise BackendAuthFailed(self.name, reason, status=response.status, response=said)

    def translate(self, err: HttpError) -> BackendError:
        """Return what an HTTP failure means for the caller."""
        reason = str(err)
        match err:
            case HttpTimeout():
                return BackendTimeout(self.name, reason, sent=err.sent)
            case NoRoom():
                return BackendOverflow(self.name, reason)
            case ResponseTooLarge():
                return BackendProtocolError(self.name, reason)
            case BadResponse():
                return BackendProtocolError(self.name, reason, status=err.status)
            case BadRequest():
                return BackendProtocolError(self.name, reason, sent=False)
            case _:
                return BackendUnavailable(self.name, reason, sent=err.sent)
