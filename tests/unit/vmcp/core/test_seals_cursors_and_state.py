"""Tokens that clients carry: sealed, bound, and worthless in anybody else's hands."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.auth.interface import Principal
from vmcp.authz.cedar import AllowAll
from vmcp.backend.interface import Item, Kind
from vmcp.core.rules import AggregationRules, ConflictPolicy
from vmcp.core.seal import Purpose, Sealer, SealError
from vmcp.core.snapshot import Offer, aggregate
from vmcp.core.state import RequestState, StateError, open_state, request_digest, seal_state
from vmcp.core.views import CursorError, ListViews, Pager

ANN, BOB = Principal("ann", "i"), Principal("bob", "i")
SEALER = Sealer()


@given(st.binary(max_size=200), st.sampled_from(Purpose))
def test_what_is_sealed_opens_again_and_for_its_purpose_only(content, purpose):
    token = SEALER.seal(purpose, content)
    assert SEALER.open(purpose, token) == content
    for other in Purpose:
        if other is not purpose:
            with pytest.raises(SealError):
                SEALER.open(other, token)


@given(st.integers(0, 30), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place, change):
    token = bytearray(SEALER.seal(Purpose.STATE, b"content"), "ascii")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token[place] = alphabet[(alphabet.index(token[place]) + 1 + change % 63) % 64]
    with pytest.raises(SealError):
        SEALER.open(Purpose.STATE, token.decode())


@pytest.mark.parametrize("token", ["", "x", "=", "äö", "A" * 70_000, "AAAA" * 10, "a b"])
def test_what_is_no_token_is_refused_without_details(token):
    with pytest.raises(SealError, match="the token is"):
        SEALER.open(Purpose.SESSION, token)


def test_a_rotated_secret_still_opens_and_the_new_one_seals():
    old, new = b"o" * 32, b"n" * 32
    token = Sealer([old]).seal(Purpose.CURSOR, b"x")
    assert Sealer([new, old]).open(Purpose.CURSOR, token) == b"x"
    with pytest.raises(SealError):
        Sealer([old]).open(Purpose.CURSOR, Sealer([new, old]).seal(Purpose.CURSOR, b"x"))


@given(st.binary(min_size=16, max_size=64), st.binary(max_size=50), st.sampled_from(Purpose))
def test_who_shares_a_secret_opens_what_others_sealed_and_for_its_purpose_only(secret, content, purpose):
    one, two = Sealer([secret]), Sealer([secret])
    token = one.seal(purpose, content)
    for _ in range(2):
        assert two.open(purpose, token) == content
        for stranger, wrong in ((two, other) for other in Purpose if other is not purpose):
            with pytest.raises(SealError):
                stranger.open(wrong, token)
    with pytest.raises(SealError):
        Sealer([secret + b"x"]).open(purpose, token)


def test_salts_that_anybody_can_send_are_not_remembered_and_those_of_replicas_are_bounded():
    secret = b"s" * 32
    sealer = Sealer([secret])
    good = Sealer([secret]).seal(Purpose.STATE, b"x")
    for number in range(1000):
        with pytest.raises(SealError):
            sealer.open(Purpose.STATE, f"{number:022}" + good[22:])
    assert not sealer._others  # noqa: SLF001  what is remembered shows nowhere else
    for _ in range(300):
        assert sealer.open(Purpose.STATE, Sealer([secret]).seal(Purpose.STATE, b"y")) == b"y"
    assert len(sealer._others) == 256  # noqa: SLF001  what is remembered shows nowhere else
    assert sealer.open(Purpose.STATE, good) == b"x"


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="at least 16"):
        Sealer([b"short"])


# --- request state ---


def state(**changes) -> RequestState:
    made = {"owner": ANN.key, "digest": b"d", "backend": "b", "expires": time.time() + 60, "inner": "theirs"}
    return RequestState(**{**made, **changes})


def test_a_state_opens_for_its_owner_and_request():
    token = seal_state(SEALER, state())
    assert open_state(SEALER, token, owner=ANN.key, digest=b"d").inner == "theirs"


@pytest.mark.parametrize(
    ("made", "owner", "digest"),
    [({}, BOB.key, b"d"), ({}, ANN.key, b"other"), ({"expires": time.time() - 1}, ANN.key, b"d")],
    ids=["another principal", "another request", "expired"],
)
def test_a_state_is_worthless_elsewhere(made, owner, digest):
    with pytest.raises(StateError, match="requestState is not valid"):
        open_state(SEALER, seal_state(SEALER, state(**made)), owner=owner, digest=digest)


def test_a_request_is_the_same_however_its_arguments_are_spelled():
    assert request_digest("m", "n", b'{"a":1,"b":[2]}') == request_digest("m", "n", b'{ "b" : [2], "a" : 1 }')
    assert request_digest("m", "n", b'{"a":1}') != request_digest("m", "n", b'{"a":2}')
    assert request_digest("m", "n", None) != request_digest("m", "x", None)


# --- pages ---


def views(*names: str) -> ListViews:
    items = tuple(Item(name, b'{"name":"%b"}' % name.encode()) for name in names)
    return ListViews(aggregate([Offer("a", items)], AggregationRules(strategy=ConflictPolicy.PRIORITY)))


def walk(pager: Pager, view, principal=ANN) -> list[bytes]:
    pages, cursor = [], None
    while True:
        page = pager.page(view, Kind.TOOLS, principal, cursor)
        pages.append(page.items)
        cursor = page.cursor
        if cursor is None:
            return pages


@given(st.sets(st.text("abcdef", min_size=1, max_size=4), max_size=20), st.integers(1, 7))
def test_pages_hold_everything_once_and_in_order(names, size):
    view = views(*names).get(Kind.TOOLS, ANN, AllowAll())
    pages = walk(Pager(SEALER, size=size), view)
    assert b",".join(page for page in pages if page) == b",".join(b'{"name":"%b"}' % n.encode() for n in sorted(names))


def test_a_list_that_changes_between_pages_neither_repeats_nor_skips_what_stayed():
    pager = Pager(SEALER, size=2)
    first = pager.page(views("a", "b", "c", "d").get(Kind.TOOLS, ANN, AllowAll()), Kind.TOOLS, ANN, None)
    later = views("a", "aa", "c", "d").get(Kind.TOOLS, ANN, AllowAll())
    assert pager.page(later, Kind.TOOLS, ANN, first.cursor).items == b'{"name":"c"},{"name":"d"}'


def test_a_cursor_of_another_principal_list_or_gateway_is_refused():
    view = views("a", "b").get(Kind.TOOLS, ANN, AllowAll())
    cursor = Pager(SEALER, size=1).page(view, Kind.TOOLS, ANN, None).cursor
    for pager, kind, who in (
        (Pager(SEALER, size=1), Kind.TOOLS, BOB),
        (Pager(SEALER, size=1), Kind.PROMPTS, ANN),
        (Pager(Sealer(), size=1), Kind.TOOLS, ANN),
    ):
        with pytest.raises(CursorError):
            pager.page(view, kind, who, cursor)
    with pytest.raises(CursorError):
        Pager(SEALER).page(view, Kind.TOOLS, ANN, "")


class OnlyA(AllowAll):
    asked = 0

    def visible(self, principal, action, items):
        self.asked += 1
        return [item.name == "a" for item in items]

    def view(self, principal):
        return principal.subject[0]


def test_a_view_is_filtered_once_for_all_who_see_the_same():
    policy, all_views = OnlyA(), views("a", "b")
    first = all_views.get(Kind.TOOLS, ANN, policy)
    assert first.names == ["a"]
    assert all_views.get(Kind.TOOLS, Principal("anna", "i"), policy) is first
    assert policy.asked == 1
    assert all_views.get(Kind.TOOLS, BOB, policy) is not first
