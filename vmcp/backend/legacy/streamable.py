"""Legacy streamable HTTP (2025-03-26 to 2025-11-25): every message a POST, its answer JSON or an event stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from vmcp.auth.interface import Principal
from vmcp.backend.answers import check_session, is_answer, message_of, refusal_of
from vmcp.backend.endpoint import GET_HEADERS, POST_HEADERS, McpEndpoint
from vmcp.backend.errors import BackendAuthFailed, BackendError, BackendTimeout, BackendUnavailable
from vmcp.backend.legacy.cookies import Cookies
from vmcp.backend.legacy.inbox import ActiveCall, Inbox
from vmcp.backend.model import BackendLink, Handshake
from vmcp.backend.settings import HeaderList
from vmcp.backend.streams import MessageStream
from vmcp.http.client import Response
from vmcp.turns import turn
from vmcp.wire.jsonrpc import Message, RpcError
from vmcp.wire.protocol import H_LAST_EVENT, H_SESSION, H_VERSION

RESUME_WAIT = 1.0
"""Seconds before a broken stream is resumed, when the server did not say how long."""

RESUME_FLOOR = 0.1
"""Seconds that we wait at least, whatever the server says; doubled each time that a stream brought nothing."""

MAX_LINK_ID = 1024
"""Characters of a session id; a session with a longer one is not handed on."""

KEPT_CAPABILITIES = frozenset({"completions", "logging", "prompts", "resources", "tools"})
"""What of a server's capabilities is handed on: all that is ever asked for."""

POST_TIMEOUT = 10.0
"""Seconds for notifications and for answers to the backend's questions."""


class StreamableChannel:
    """One session over streamable HTTP.

    Attributes:
        session_id: As the server issued it with `initialize`; None = it keeps none.
        principal: On whose behalf the session's own requests go; None = probes. Follows the newest call.
        passthrough: The client's headers for the session's own requests.
    """

    def __init__(
        self,
        endpoint: McpEndpoint,
        inbox: Callable[[], Inbox],
        *,
        principal: Principal | None,
        passthrough: HeaderList,
        max_event: int,
    ) -> None:
        self._endpoint = endpoint
        self._inbox = inbox
        self._max_event = max_event
        self._version: str | None = None
        self._headers: HeaderList = POST_HEADERS
        self._cookies = Cookies(secure=endpoint.url.startswith("https:"))
        self.session_id: str | None = None
        self.principal = principal
        self.passthrough = passthrough

    def established(self, version: str) -> None:
        """From now on every request names session and version."""
        self._version = version
        self._headers = POST_HEADERS + self._session_headers()

    def link(self, handshake: Handshake, subscriptions: Iterable[str]) -> BackendLink | None:
        """Return what another process needs to go on with the session; None where the server keeps none."""
        if self.session_id is None or len(self.session_id) > MAX_LINK_ID:
            return None
        return BackendLink(
            id=self.session_id,
            version=handshake.version,
            capabilities=tuple(sorted(handshake.capabilities & KEPT_CAPABILITIES)),
            cookie=self._cookies.header[0][1] if self._cookies.header else "",
            subscriptions=tuple(sorted(subscriptions)),
        )

    def take_up(self, link: BackendLink) -> Handshake:
        """Go on with a session that another process opened; return what the server said there, as far as it is known.

        No IO: whether the server still knows it is what the first request shows.
        """
        self.session_id = link.id
        self._cookies.take(",".join(link.cookie.split("; ")))
        self.established(link.version)
        return Handshake(link.version, frozenset(link.capabilities))

    def _session_headers(self) -> HeaderList:
        out: HeaderList = () if self.session_id is None else ((H_SESSION, self.session_id),)
        return (*out, *(() if self._version is None else ((H_VERSION, self._version),)), *self._cookies.header)

    def _keep_cookies(self, response: Response) -> None:
        """Go back to the instance that a load balancer chose for this session."""
        said = response.headers.get("set-cookie")
        if said is not None and self._cookies.take(said):
            self._headers = POST_HEADERS + self._session_headers()

    async def exchange(self, body: bytes, id_: int, active: ActiveCall, *, idempotent: bool) -> tuple[Message, int]:
        """Send a request and read until its response.

        Raises:
            SessionLost: The server does not know the session; nothing was executed.
            BackendError: No answer.
        """
        call = active.call
        try:
            response = await self._endpoint.send(
                "POST",
                body,
                POST_HEADERS + self._cookies.header if self._version is None else self._headers,
                deadline=active.deadline,
                principal=self.principal,
                passthrough=call.headers or self.passthrough,
                trace=call.trace,
                idempotent=idempotent,
            )
        except BackendAuthFailed as err:
            # Of lists and handshakes it is the refusal that counts: the backend needs other credentials.
            if idempotent or (message := refusal_of(err, id_)) is None or err.response is None:
                raise
            check_session(err.response, message, id_, self.session_id)
            return message, err.status
        self._keep_cookies(response)
        if self._version is None:
            self.session_id = response.headers.get(H_SESSION) or None
            self._headers = POST_HEADERS + self._session_headers()  # for what has to be said before the answer
        return await self._message(response, id_, active), response.status

    async def _message(self, response: Response, id_: int, active: ActiveCall) -> Message:
        """Return the response to a request, once it is certain that it does not say that the session is lost."""
        try:
            if response.stream is None:
                if response.held is not None:
                    active.call.held = response.held
                    await turn()
                message = message_of(self._endpoint.name, response)
            else:
                message = await self._follow(response, id_, active)
        except BackendError as err:
            if self._version is not None and err.status >= 400:
                check_session(response, None, id_, self.session_id)
            raise
        if self._version is not None and isinstance(message.error, RpcError):
            check_session(response, message, id_, self.session_id)
        return message

    async def _follow(self, response: Response, id_: int, active: ActiveCall) -> Message:
        """Read the call's stream; when it ends early and had event ids, resume where it ended."""
        last_id: str | None = None
        floor = RESUME_FLOOR
        while True:
            assert response.stream is not None
            stream = MessageStream(self._endpoint, response.stream, max_event=self._max_event)
            active.attach(stream)
            try:
                found = await self._until_response(stream, id_, active)
            except BackendTimeout:
                stream.close()
                raise
            except BackendError:
                if (stream.last_id or last_id) is None:
                    raise
                found = None
            except asyncio.CancelledError:
                stream.close()
                raise
            if found is not None:
                return found
            last_id = stream.last_id or last_id
            if last_id is None:
                raise BackendUnavailable(self._endpoint.name, f"the stream ended without the answer{stream.noise}")
            floor = RESUME_FLOOR if stream.messages else floor * 2
            response = await self._resume(
                last_id, max(floor, RESUME_WAIT if stream.retry is None else stream.retry), active
            )

    async def _until_response(self, stream: MessageStream, id_: int, active: ActiveCall) -> Message | None:
        while (message := await stream.message()) is not None:
            if message.is_response:
                if is_answer(message, id_):
                    stream.finish()
                    active.call.held = stream.held
                    return message
                continue
            await self._inbox().take(message, active)
        return None

    async def _resume(self, last_id: str, wait: float, active: ActiveCall) -> Response:
        loop = asyncio.get_running_loop()
        if loop.time() + wait >= active.deadline:
            raise BackendUnavailable(
                self._endpoint.name, "the stream ended without the answer, and there is no time to resume"
            )
        await asyncio.sleep(wait)
        response = await self.get(last_id, deadline=active.deadline)
        if response.stream is None:
            raise BackendUnavailable(
                self._endpoint.name, f"the stream could not be resumed (HTTP {response.status})", status=response.status
            )
        return response

    async def get(self, last_id: str | None, *, deadline: float) -> Response:
        """Open the session's stream, or resume one.

        Raises:
            BackendError: No answer.
        """
        headers = GET_HEADERS + self._session_headers()
        if last_id is not None:
            # UTF-8, as HTML's EventSource writes it.
            headers = (*headers, (H_LAST_EVENT, last_id.encode().decode("latin-1")))
        return await self._endpoint.send(
            "GET",
            None,
            headers,
            deadline=deadline,
            principal=self.principal,
            passthrough=self.passthrough,
            idempotent=True,
            long_lived=True,
        )

    async def post(self, body: bytes) -> None:
        """Send a notification or an answer of ours.

        Raises:
            BackendError: It could not be sent, or the server is in trouble.
        """
        deadline = asyncio.get_running_loop().time() + POST_TIMEOUT
        response = await self._endpoint.send(
            "POST",
            body,
            self._headers,
            deadline=deadline,
            principal=self.principal,
            passthrough=self.passthrough,
            for_others=True,
        )
        if response.stream is not None:
            response.stream.discard(1.0)
        if response.status >= 400:
            raise BackendUnavailable(
                self._endpoint.name, f"did not take a message (HTTP {response.status})", status=response.status
            )

    async def close(self) -> None:
        """Send DELETE when there is a session id. Never raises but for cancellation."""
        if self.session_id is None:
            return
        deadline = asyncio.get_running_loop().time() + 2.0
        headers = self._session_headers()
        self.session_id = None
        try:
            response = await self._endpoint.send(
                "DELETE",
                None,
                headers,
                deadline=deadline,
                principal=self.principal,
                passthrough=self.passthrough,
                for_others=True,
            )
        except BackendError:
            return
        if response.stream is not None:
            response.stream.close()
