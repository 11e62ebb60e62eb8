"""Members as they stand: what is known of each, from one generation, while its newest one cannot be used yet.

A member is taken anew once it is settled: its controller has judged the newest spec, its URL is there. Until then it
stays what it was, whole. Whoever looks at a group again and again keeps a `Standing` per group for that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import Generic, TypeVar

from membership.member import Member, MemberType, is_settled

P = TypeVar("P", bound=Hashable)
R = TypeVar("R")


class Standing(Generic[P, R]):
    """The members of one group from look to look. `P` tells objects apart, `R` is one version of an object."""

    def __init__(self) -> None:
        self._read: dict[P, tuple[R, Member]] = {}
        self._stood: dict[P, Member] = {}

    def look(
        self,
        found: Iterable[tuple[P, R]],
        read: Callable[[R], Member],
        settled: Callable[[Member], bool] = is_settled,
    ) -> list[tuple[P, Member]]:
        """Return the members, in the order of the objects.

        Args:
            found: All objects of the group; one that is the same as at the last look is not read again.
            read: Reads an object.
            settled: Whether a member replaces what was known of it before.
        """
        before, stood = self._read, self._stood
        self._read, self._stood = {}, {}
        members: list[tuple[P, Member]] = []
        for place, version in found:
            known = before.get(place)
            member = known[1] if known is not None and known[0] is version else read(version)
            self._read[place] = version, member
            last = stood.get(place)
            if settled(member):
                self._stood[place] = member
            elif last is not None and last.uid == member.uid:
                member = self._stood[place] = last
            members.append((place, member))
        return members


def is_claimed(member: Member) -> bool:
    """Whether somebody has to look who owns the member's name: the controllers of remote kinds say it themselves."""
    return member.type in (MemberType.CONTAINER, MemberType.PROXY) and not member.problem


def disowned(member: Member, rivals: Iterable[tuple[str, tuple[str, str]]]) -> Member:
    """Return the member, with a problem when its name belongs to an older object of another kind.

    Args:
        member: See `is_claimed`.
        rivals: Kind and order (see `Member.order`) of the objects of other kinds that have its name.
    """
    for kind, order in rivals:
        if order < member.order:
            return replace(member, problem=f"its name belongs to an older {kind}", made={})
    return member
