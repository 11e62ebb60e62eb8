"""Request lines and headers as bytes: checked so that nothing breaks out of its line, and kept where they come again.

A head is the same for every call of a tool in a session, and encoding one costs more than looking it up. Some of its
values are chosen by clients (`Mcp-Name`, mirrored parameters), so what is kept is bounded in bytes: per backend, and
for the whole process, however many backends there are.
"""

from __future__ import annotations

from typing import Final

from vmcp.budget import MemoryBudget
from vmcp.http.client.errors import BadRequest
from vmcp.http.client.origin import Origin
from vmcp.http.client.types import Headers
from vmcp.turns import LARGE
from vmcp.wire.protocol import HeaderError, check_header, is_token

LONGEST: Final = 2048
"""Bytes of a head that is worth keeping; the usual ones have 200 to 500."""
PER_BACKEND: Final = 256 * 1024
"""Bytes of the heads that are kept for one backend."""
PER_PROCESS: Final = 16 * 1024 * 1024
"""The same for all backends together."""
_SHARE: Final = 4
"""Times its length that a kept head takes: itself, and the texts that it is found by."""
_OWN: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_process = MemoryBudget(PER_PROCESS)


class Heads:
    """The heads of the requests to one origin.

    Attributes:
        kept: Bytes that the kept heads take.
    """

    def __init__(self, origin: Origin, *, limit: int = PER_BACKEND, budget: MemoryBudget = _process) -> None:
        """Keep nothing yet.

        Args:
            origin: Of the requests whose heads are kept.
            limit: Bytes that are kept at most.
            budget: Shared with others.
        """
        self._origin = origin
        self._limit = limit
        self._budget = budget
        self._names: set[str] = set()
        self._heads: dict[tuple[str, str, Headers], bytes] = {}
        self.kept = 0

    def encode(self, origin: Origin, method: str, target: str, headers: Headers, body: bytes | None) -> bytes:
        """Return a whole request; of one with a body beyond `vmcp.turns.LARGE` the head, so that it is not copied.

        Args:
            origin: Where it goes; after a redirect another one than ours.
            method: GET, POST or DELETE.
            target: Path and query.
            headers: Everything but what belongs to the transport. The heads of tuples are kept.
            body: None = none.

        Raises:
            BadRequest: A header or the target must not be sent.
        """
        length = b"\r\n\r\n" if body is None else b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        if body is None or len(body) > LARGE:
            body = b""
        if not isinstance(headers, tuple) or origin is not self._origin:
            return self._head(origin, method, target, headers) + length + body
        key = (method, target, headers)
        head = self._heads.get(key)
        if head is None:
            head = self._head(origin, method, target, headers)
            self._keep(key, head)
        return head + length + body

    def _keep(self, key: tuple[str, str, Headers], head: bytes) -> None:
        cost = _SHARE * len(head)
        if len(head) > LONGEST:
            return
        if self.kept + cost > self._limit or cost > self._budget.left:
            self.forget()
        if cost <= min(self._limit, self._budget.left):
            self._heads[key] = head
            self.kept += cost
            self._budget.left -= cost

    def forget(self) -> None:
        """Drop what is kept."""
        self._heads.clear()
        self._budget.left += self.kept
        self.kept = 0

    def _head(self, origin: Origin, method: str, target: str, headers: Headers) -> bytes:
        """Return request line and headers, checked. Anything that could break out of its line is refused."""
        lines = [f"{method} {target} HTTP/1.1\r\nhost: {origin.authority}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines)
        count = len(lines)
        if head.count("\n") != count or head.count("\r") != count or "\0" in head:
            _refuse(target, headers)
        asks = False
        for name, _value in headers:
            if name not in self._names:
                self._check_name(name)
            asks = asks or name.lower() == "accept-encoding"
        if " " in target or not target.isascii():
            raise BadRequest("the request target is not a URL path")
        if not asks:
            head += "\r\naccept-encoding: identity"
        try:
            return head.encode("latin-1")
        except UnicodeEncodeError:
            raise BadRequest("a header value cannot be written as bytes") from None

    def _check_name(self, name: str) -> None:
        if not is_token(name):
            raise BadRequest(f"illegal header name {name[:64]!r}")
        if name.lower() in _OWN:
            raise BadRequest(f"the header {name!r} belongs to the transport")
        if len(self._names) < 1024:
            self._names.add(name)


def _refuse(target: str, headers: Headers) -> None:
    for name, value in headers:
        try:
            check_header(name, value)
        except HeaderError as err:
            raise BadRequest(str(err)) from None
    raise BadRequest(f"the request target holds a line end: {target[:64]!r}")
