"""Issuers that the embedded authorization server trusts, and for what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.common.markers import CelRule, ValueBounds, rules
from api.common.model import AtomicList, Struct

Identifier = Annotated[str, ValueBounds(min_length=1, max_length=256)]
# A URL or URN of at most 2 KiB.
Uri = Annotated[str, ValueBounds(min_length=1, max_length=2048)]
HttpResource = Annotated[str, ValueBounds(pattern=r"^https?://[^[:space:]]+$", min_length=1, max_length=2048)]

# Claims that the server itself gives a meaning; the actor must be named by another one.
RESERVED_CLAIMS = ("sub", "iss", "aud", "exp", "iat", "nbf", "jti", "name", "email", "scope", "scp", "may_act")


class SubjectBinding(Struct):
    """What one subject of the issuer may get tokens for."""

    subject: Annotated[str, ValueBounds(pattern=r"^[^*]+$", min_length=1, max_length=256)]
    """The sub claim of the assertion, exactly."""
    allowed_resources: Annotated[AtomicList[HttpResource], ValueBounds(min_items=1, max_items=50)]
    """Resources that the subject may ask for."""


@rules(
    CelRule("duration(self.maxAssertionAge) > duration('0s')", "maxAssertionAge must be greater than zero"),
    CelRule(
        "self.subjectBindings.all(a, self.subjectBindings.exists_one(b, b.subject == a.subject))",
        "subjectBindings must not contain duplicate subjects",
    ),
)
class JWTBearerGrant(Struct):
    """Accept the issuer's tokens as JWT bearer grants (RFC 7523)."""

    max_assertion_age: str
    """Oldest assertion that is accepted, a Go duration such as 5m."""
    subject_bindings: Annotated[AtomicList[SubjectBinding], ValueBounds(min_items=1, max_items=50)]
    """Subjects that are accepted."""
    accepted_audiences: Annotated[AtomicList[HttpResource], ValueBounds(max_items=50)] = ()
    """Audiences that are accepted besides the server's own."""


_DELEGATION = (
    "(has(self.actorClaim) && self.actorClaim != '')",
    "(has(self.actorMatcher) && self.actorMatcher != '')",
    "(has(self.allowMayAct) && self.allowMayAct)",
)
_RESERVED = ", ".join(f"'{name}'" for name in RESERVED_CLAIMS)


@rules(
    CelRule(
        "!has(self.allowedDelegateClients) || !('*' in self.allowedDelegateClients) || "
        "size(self.allowedDelegateClients) == 1",
        'allowedDelegateClients must not combine the wildcard "*" with specific client IDs',
    ),
    CelRule(
        "!(has(self.allowMayAct) && self.allowMayAct && has(self.allowedDelegateClients) && "
        "'*' in self.allowedDelegateClients)",
        'allowMayAct must not be enabled when allowedDelegateClients contains the wildcard "*"',
    ),
    CelRule(
        f"!has(self.actorClaim) || !(self.actorClaim in [{_RESERVED}])",
        "actorClaim must name a readable claim; use client_id or a non-reserved claim such as azp, appid, or cid",
    ),
    CelRule(
        "!(has(self.allowPrivateIPs) && self.allowPrivateIPs) || (has(self.jwksUrl) && self.jwksUrl != '')",
        "allowPrivateIPs requires jwksUrl to be set explicitly",
    ),
    CelRule(
        "(has(self.expectedAudience) && self.expectedAudience != '') || (has(self.jwtBearerGrant) && "
        f"!({' || '.join(_DELEGATION)} || (has(self.allowedActors) && size(self.allowedActors) > 0)))",
        "expectedAudience is required unless jwtBearerGrant is configured without actorClaim, actorMatcher, "
        "allowMayAct, or allowedActors",
    ),
    CelRule(
        f"!((has(self.expectedAudience) && self.expectedAudience != '') || {' || '.join(_DELEGATION)}) || "
        "(has(self.allowedDelegateClients) && size(self.allowedDelegateClients) > 0)",
        "allowedDelegateClients is required when expectedAudience, actorClaim, actorMatcher, or allowMayAct is set",
    ),
)
class TrustedIssuer(Struct):
    """An issuer whose tokens are accepted, and for what."""

    issuer_url: Uri
    """The iss claim of its tokens, exactly."""
    expected_audience: Uri | None = None
    """Audience that subject tokens must carry."""
    jwks_url: Annotated[str, ValueBounds(max_length=2048)] | None = None
    """Where its keys are; discovered when empty."""
    insecure_allow_http: bool | None = Field(default=None, alias="insecureAllowHTTP")
    """Accept it without TLS. For tests only."""
    allow_private_ips: bool | None = Field(default=None, alias="allowPrivateIPs")
    """Accept private addresses for its keys."""
    actor_claim: Annotated[str, ValueBounds(max_length=64)] | None = None
    """Claim that names the actor of a delegation."""
    allowed_actors: Annotated[AtomicList[Identifier], ValueBounds(max_items=50)] = ()
    """Actors that are accepted."""
    actor_matcher: Annotated[str, ValueBounds(max_length=4096)] | None = None
    """CEL expression over the claims that decides whether the actor is accepted."""
    allowed_delegate_clients: Annotated[AtomicList[Identifier], ValueBounds(min_items=1, max_items=50)] = ()
    """Clients that may exchange its tokens; a single * stands for all."""
    allow_may_act: bool = False
    """Accept the may_act claim as proof of a delegation."""
    jwt_bearer_grant: JWTBearerGrant | None = None
    """Accept its tokens as JWT bearer grants."""
