"""Cookies of one session: how load balancers bring a session's requests back to the instance that knows it.

One jar per session and never shared, so that nobody's cookie reaches another's request, and a new session may go to
another instance. Of RFC 6265 this keeps what stickiness needs: names and values, replacement, `Max-Age=0` and `Secure`.
Domain and path are not looked at, because a session has one origin and one endpoint.
"""

from __future__ import annotations

import re

from vmcp.backend.settings import HeaderList

MAX_COOKIES = 16
MAX_SIZE = 4096
"""Characters of all names and values; what does not fit is not kept."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r'"?[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"?')


class Cookies:
    """See the module.

    Attributes:
        header: What to send: one `cookie` header, or none.
    """

    def __init__(self, *, secure: bool) -> None:
        """Make an empty jar; `secure` says whether requests travel over TLS."""
        self._secure = secure
        self._kept: dict[str, str] = {}
        self.header: HeaderList = ()

    def take(self, said: str) -> bool:
        """Take the `Set-Cookie` headers of an answer, joined by commas; return whether `header` differs now."""
        for part in said.split(","):
            # A comma also stands in `Expires=Wed, 21 Oct ...`; what follows it there has no name before its "=".
            pair, *attributes = part.split(";")
            name, equals, value = (piece.strip() for piece in pair.partition("="))
            if equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value):
                self._set(name, value, [attribute.strip().lower() for attribute in attributes])
        before = self.header
        text = "; ".join(f"{name}={value}" for name, value in self._kept.items())
        self.header = (("cookie", text),) if text else ()
        return self.header != before

    def _set(self, name: str, value: str, attributes: list[str]) -> None:
        if "secure" in attributes and not self._secure:
            return
        if any(attribute.startswith(("max-age=0", "max-age=-")) for attribute in attributes):
            self._kept.pop(name, None)
            return
        others = sum(len(kept) + len(text) for kept, text in self._kept.items() if kept != name)
        if name not in self._kept and len(self._kept) >= MAX_COOKIES:
            return
        if others + len(name) + len(value) <= MAX_SIZE:
            self._kept[name] = value
