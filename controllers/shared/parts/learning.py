"""Learns what is in the Secrets and ConfigMaps that parts name, and notes that somebody asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from api.common.authz import AuthzConfigRef
from controllers.shared.content import Content, Contents, contents
from controllers.shared.dependencies import Dependencies
from controllers.shared.parts.learned import Learned, PolicyText
from controllers.shared.resources import CONFIG_MAP, SECRET
from runtime import ApiError, Key, Manager, NotFoundError, TransportError


class Learning:
    """What one controller learns, for all of its objects.

    Args:
        manager: for the client, the cache and the facts that all controllers share.
        dependencies: where each look is noted, so that a change wakes whoever looked.
    """

    def __init__(self, manager: Manager, dependencies: Dependencies) -> None:
        self._reader, self._client = manager.reader, manager.client
        self._secrets, self._config_maps = contents(manager, SECRET), contents(manager, CONFIG_MAP)
        self._dependencies = dependencies
        self._policies: dict[Key, tuple[str, int, Mapping[str, str]]] = {}

    async def learn(
        self, user: Key, secrets: Iterable[str], config_maps: Iterable[str]
    ) -> tuple[Learned, Exception | None]:
        """Learn what is in Secrets and ConfigMaps of the user's namespace.

        Returns:
            What is known, and the passing error that kept something from being read: decide, then try again.
        """
        names, bundles = tuple(secrets), tuple(config_maps)
        for name in names:
            self._dependencies.note(user, SECRET, Key(user.namespace, name))
        for name in bundles:
            self._dependencies.note(user, CONFIG_MAP, Key(user.namespace, name))
        errors: list[Exception] = []

        async def look(source: Contents, wanted: Iterable[str]) -> dict[str, Content]:
            found = {}
            for name in wanted:
                answer = await source.look(Key(user.namespace, name))
                found[name] = answer.content
                if answer.error is not None:
                    errors.append(answer.error)
            return found

        known, maps = await asyncio.gather(look(self._secrets, names), look(self._config_maps, bundles))
        hash_key = self._secrets.hash_key
        hashed = hash_key is not None and hash_key.expected
        if hash_key is not None and not hashed:
            self._dependencies.note(user, SECRET, hash_key.place)
        versions = {} if hashed else dict(self._versions(user.namespace, names))
        learned = Learned(secrets=known, config_maps=maps, secret_versions=versions, hashed=hashed)
        return learned, errors[0] if errors else None

    def _versions(self, namespace: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        for name in names:
            secret = self._reader.get(SECRET, Key(namespace, name))
            if secret is not None:
                yield name, f"{secret.meta.uid}/{secret.meta.resource_version}"

    async def policy_text(
        self, user: Key, own: AuthzConfigRef | None
    ) -> tuple[str | PolicyText | None, Exception | None]:
        """Read the ConfigMap with the policies, once per version; None when none is named."""
        if own is None or own.config_map is None or own.type != "configMap":
            return None, None
        key = Key(user.namespace, own.config_map.name)
        self._dependencies.note(user, CONFIG_MAP, key)
        record = self._reader.get(CONFIG_MAP, key)
        if record is None:
            self._policies.pop(key, None)
            return PolicyText.MISSING, None
        known = self._policies.get(key)
        error: Exception | None = None
        if known is None or known[0] != record.meta.uid or known[1] < record.version:
            try:
                live = await self._client.get_live(CONFIG_MAP, key)
            except NotFoundError:
                return PolicyText.MISSING, None
            except (ApiError, TransportError) as failure:
                error = failure
            else:
                known = (live.meta.uid, live.version, live.path("data") or {})
                self._policies[key] = known
        if known is None:
            return PolicyText.UNREAD, error
        return known[2].get(own.config_map.key, PolicyText.NO_KEY), error
