"""Each stage of a decision sees the value of the stage before: the parts name all that must be learned."""

from __future__ import annotations

import json
from dataclasses import replace

from controllers.shared.content import Facts, Unknown
from controllers.shared.parts.learned import Learned
from controllers.virtualmcpserver.decide import decide
from controllers.virtualmcpserver.names import HMAC_KEY
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import (
    TOKEN,
    auth_config,
    entry,
    make,
    said,
)
from tests.unit.controllers.virtualmcpserver.test_gateway_random_specs import NAMES, World


class Asked(dict[str, Facts]):
    """Facts that note for which names they were asked."""

    def __init__(self, found: dict[str, Facts]) -> None:
        super().__init__(found)
        self.names: set[str] = set()

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        self.names.add(name)
        return super().get(name, default)


def test_a_decision_asks_for_no_secret_and_no_config_map_that_the_parts_do_not_name(scale) -> None:
    """Nothing else is learned: whatever a stage asked beyond it would look as if it did not exist."""
    world, published = World(scale.seed), 0
    facts = Facts(frozenset({"present", "key", "k", "a", "ca.crt"}), frozenset({"present", "key", "ca.crt"}))
    for index in range(scale(40, 1000)):
        seen = world.observed(index)
        if seen is None:
            continue
        secrets, maps = Asked(dict.fromkeys(NAMES, facts)), Asked(dict.fromkeys(NAMES, facts))
        decision = decide(replace(seen, learned=Learned(secrets=secrets, config_maps=maps, hashed=True)))
        assert secrets.names - {""} <= {*seen.parts.secrets}
        assert maps.names - {""} <= {*seen.parts.config_maps}
        published += decision.intents.config_map is not None
    assert published, "nothing was published: the test shows little"


def test_every_secret_of_the_pods_is_one_that_the_parts_name() -> None:
    reference = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "d"}}
    seen = make(
        {"outgoingAuth": {"source": "inline", "default": reference}},
        entry("own", auth_config="m"),
        auth_configs={"d": auth_config("d", TOKEN), "m": auth_config("m", TOKEN)},
        secrets={"s": Facts(frozenset({"k"}))},
    )
    deployment = json.dumps(decide(seen).intents.deployment)
    assert '"s"' in deployment
    assert seen.parts.secrets == ("s",)
    assert HMAC_KEY in deployment, "its own Secret is made by the operator and not learned about"


def test_an_auth_config_that_cannot_be_used_asks_for_nothing() -> None:
    seen = make({}, entry(auth_config="bad"), auth_configs={"bad": auth_config("bad", TOKEN, "False", "Odd")})
    assert seen.parts.secrets == ()
    assert said(decide(seen))["DiscoveredAuthConfig-e"] == "False/Odd"


def test_a_need_that_could_not_be_looked_at_counts_as_met() -> None:
    spec = {"sessionStorage": {"provider": "redis", "address": "r:1", "passwordRef": {"name": "pw", "key": "k"}}}
    unread = make(spec, entry(), secrets={"pw": Unknown.UNREAD})
    missing = make(spec, entry())
    assert said(decide(unread))["AuthConfigured"] == "True/AuthValid"
    assert said(decide(missing))["AuthConfigured"] == "False/AuthInvalid"
    assert unread.parts.secrets == missing.parts.secrets == ("pw",)
