"""A member is taken anew once it is settled, and stays whole as it was until then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from membership import Member, MemberType, Standing, disowned, is_claimed


@dataclass(frozen=True)
class Version:
    """One version of an object, as a test writes it."""

    member: Member


def entry(url: str, **fields: object) -> Member:
    given = {"phase": "Valid", "uid": "u1", **fields}
    return Member(type=MemberType.ENTRY, name="e", order=("t", "u1"), url=url, **given)  # type: ignore[arg-type]


def read(version: Version) -> Member:
    return version.member


def look(standing: Standing[str, Version], *members: Member, **options: object) -> list[Member]:
    found = [(member.name, Version(member)) for member in members]
    return [member for _, member in standing.look(found, read, **options)]  # type: ignore[arg-type]


def test_an_unsettled_member_stays_whole_as_it_was():
    standing: Standing[str, Version] = Standing()
    good = entry("https://a.example")
    assert look(standing, good) == [good]
    unjudged = entry("https://b.example", judged=False)
    assert look(standing, unjudged) == [good]
    assert look(standing, replace(unjudged, judged=True)) == [entry("https://b.example")]


def test_a_new_object_of_the_same_name_inherits_nothing():
    standing: Standing[str, Version] = Standing()
    look(standing, entry("https://a.example"))
    other = entry("https://b.example", uid="u2", judged=False)
    assert look(standing, other) == [other]


def test_a_member_that_left_is_forgotten():
    standing: Standing[str, Version] = Standing()
    look(standing, entry("https://a.example"))
    assert look(standing) == []
    unjudged = entry("https://b.example", judged=False)
    assert look(standing, unjudged) == [unjudged]


def test_whoever_looks_may_wait_for_more_than_the_verdict():
    standing: Standing[str, Version] = Standing()
    look(standing, entry("https://a.example"))
    assert look(standing, entry("https://b.example"), settled=lambda _: False) == [entry("https://a.example")]


def test_an_object_that_did_not_change_is_not_read_again():
    standing: Standing[str, Version] = Standing()
    version, reads = Version(entry("https://a.example")), []

    def counted(found: Version) -> Member:
        reads.append(found)
        return found.member

    for _ in range(3):
        standing.look([("e", version)], counted)
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("rival", "problem"), [(("s", "u0"), "its name belongs to an older MCPServerEntry"), (("u", "u0"), "")]
)
def test_a_name_belongs_to_the_oldest(rival, problem):
    server = Member(type=MemberType.CONTAINER, name="e", order=("t", "u1"))
    assert is_claimed(server)
    assert disowned(server, [("MCPServerEntry", rival)]).problem == problem
    assert not is_claimed(entry("https://a.example"))
