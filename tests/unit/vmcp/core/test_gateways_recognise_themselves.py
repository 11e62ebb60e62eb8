"""A gateway that is a member of its own group, directly or through others, offers nothing of its own a second time."""

from __future__ import annotations

import itertools
import json

import pytest

from vmcp.auth.interface import ANONYMOUS
from vmcp.authz.cedar import AllowAll
from vmcp.backend.interface import Era, Item, Kind, Reply
from vmcp.backend.lists import FetchedList, fetch
from vmcp.backend.model import Handshake
from vmcp.core.rules import AggregationRules
from vmcp.core.seal import Sealer
from vmcp.core.snapshot import Offer, aggregate
from vmcp.core.views import ListViews, Pager
from vmcp.front.convert import Rendering
from vmcp.wire.lineage import MAX_HOPS, gateway_mark

ALL = Handshake("2025-11-25", frozenset({"tools", "resources", "prompts"}))


def tool(name: str) -> Item:
    return Item(name, json.dumps({"name": name, "inputSchema": {"type": "object"}}).encode())


class Gateway:
    """The lists of one gateway: what its servers offer, and what it last fetched from its member gateways."""

    def __init__(self, name: str, *servers: str) -> None:
        self.mark = gateway_mark(name, "group", [(name, "http://x")])
        self.servers = servers
        self.members: dict[str, Gateway] = {}
        self.fetched: dict[str, FetchedList] = {}
        self.pager = Pager(Sealer(), size=2)

    async def fetch(self) -> None:
        for name, member in self.members.items():
            self.fetched[name] = await fetch(name, Kind.TOOLS, ALL, member.ask, own=self.mark)

    async def ask(self, method: str, params: bytes) -> Reply:
        assert method == "tools/list"
        cursor = json.loads(params).get("cursor")
        page = self.pager.page(self.view(), Kind.TOOLS, ANONYMOUS, cursor)
        return Reply(result=Rendering(b"{}").legacy(Kind.TOOLS, page), era=Era.LEGACY)

    def view(self):
        offers = [Offer(server, (tool(f"{server}1"), tool(f"{server}2"))) for server in self.servers]
        offers += [Offer(name, listed.items) for name, listed in self.fetched.items()]
        return ListViews(aggregate(offers, AggregationRules()), self.mark).get(Kind.TOOLS, ANONYMOUS, AllowAll())

    @property
    def names(self) -> list[str]:
        return self.view().names


async def settle(*gateways: Gateway) -> None:
    """Let all fetch from all, until nothing changes."""
    for _ in range(12):
        before = [gateway.names for gateway in gateways]
        for gateway in gateways:
            await gateway.fetch()
        if before == [gateway.names for gateway in gateways]:
            return
    pytest.fail(f"the lists grow without end: {[len(gateway.names) for gateway in gateways]}")


async def test_a_gateway_that_is_its_own_member_offers_its_tools_once_and_says_why() -> None:
    a = Gateway("a", "x")
    a.members["self"] = a
    await settle(a)
    assert a.names == ["x_x1", "x_x2"]
    assert "this gateway itself" in a.fetched["self"].left_out[0]


async def test_two_gateways_that_are_members_of_each_other_share_what_is_not_the_others_own() -> None:
    a, b = Gateway("a", "x"), Gateway("b", "y")
    a.members["b"], b.members["a"] = b, a
    await settle(a, b)
    assert a.names == ["b_y_y1", "b_y_y2", "x_x1", "x_x2"]
    assert b.names == ["a_x_x1", "a_x_x2", "y_y1", "y_y2"]


async def test_a_ring_of_gateways_comes_to_rest() -> None:
    ring = [Gateway(name, server) for name, server in (("a", "x"), ("b", "y"), ("c", "z"))]
    for gateway, following in zip(ring, ring[1:] + ring[:1], strict=True):
        gateway.members["next"] = following
    await settle(*ring)
    assert ring[0].names == ["next_next_z_z1", "next_next_z_z2", "next_y_y1", "next_y_y2", "x_x1", "x_x2"]


async def test_a_chain_of_gateways_is_served_as_far_as_it_may_reach() -> None:
    chain = [Gateway(f"g{number}", "x") for number in range(MAX_HOPS + 2)]
    for gateway, following in itertools.pairwise(chain):
        gateway.members["next"] = following
    for gateway in reversed(chain):
        await gateway.fetch()
    assert len(chain[0].names) == 2 * (MAX_HOPS + 1)
    assert "more than" in chain[0].fetched["next"].left_out[0]


def test_replicas_bear_one_mark_and_other_members_another() -> None:
    one = gateway_mark("n", "g", [("a", "http://a"), ("b", "http://b")])
    assert one == gateway_mark("n", "g", [("b", "http://b"), ("a", "http://a")])
    assert one != gateway_mark("n", "g", [("a", "http://a")])
