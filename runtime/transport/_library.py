"""Import of kubernetes_asyncio's configuration loaders without its 800 model modules.

`import kubernetes_asyncio.config` runs the package's `__init__` and with it every generated model: measured 37 MiB and
0.33 s on CPython 3.11, a quarter of the memory budget of an operator that never uses one of them. The loaders need two
classes of the client package. So the two package `__init__` files are left out while the loaders are imported: bare
package objects take their places in `sys.modules` and are removed again afterwards. A later `import kubernetes_asyncio`
elsewhere gets the real package. Measured: 2.7 MiB, 0.03 s.

urllib3, which one of them imports for the header of basic authentication, is imported when it is used: 0.03 s more.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import sys
import threading
from types import ModuleType
from typing import Any, NamedTuple

from runtime.transport.plugin import run_plugin

_PACKAGE = "kubernetes_asyncio"
_HEAVY = "urllib3"
_SHELLS = (_PACKAGE, f"{_PACKAGE}.client", f"{_PACKAGE}.config")
_lock = threading.Lock()
_loaded: Library | None = None


class Library(NamedTuple):
    """What is used of kubernetes_asyncio."""

    kube_config: Any
    """Module with KubeConfigLoader and KubeConfigMerger."""
    incluster_config: Any
    """Module with InClusterConfigLoader and the names of the service account's files."""
    Configuration: Any
    ConfigException: type[Exception]


def library() -> Library:
    """Import the loaders, once per process; safe from several threads."""
    global _loaded  # noqa: PLW0603  a process-wide cache, like sys.modules
    with _lock:
        if _loaded is None:
            # The library logs response bodies at DEBUG, and an exec plugin's output at ERROR: Secrets may be in both.
            for name in (f"{_PACKAGE}.client.rest", f"{_PACKAGE}.config.kube_config"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            _loaded = _import_whole() if _PACKAGE in sys.modules else _import_lean()
        return _loaded


def _import_whole() -> Library:
    kube: Any = importlib.import_module(f"{_PACKAGE}.config.kube_config")
    kube.ExecProvider = _bounded(kube.ExecProvider)
    incluster = importlib.import_module(f"{_PACKAGE}.config.incluster_config")
    return Library(kube, incluster, kube.Configuration, kube.ConfigException)


def _bounded(provider: Any) -> Any:
    """Return the library's reader of `exec` sections with our way of running what it found."""
    if getattr(provider, "bounded", False):
        return provider

    class BoundedExecProvider(provider):  # type: ignore[misc]
        bounded = True

        async def run(self, previous_response: str | None = None) -> Any:  # noqa: ARG002  the library's signature
            return await run_plugin(self.args, self.env, self.api_version)

    return BoundedExecProvider


def _import_lean() -> Library:
    shells = {name: _shell(name) for name in _SHELLS}
    sys.modules.update(shells)
    if _HEAVY not in sys.modules:
        sys.modules[_HEAVY] = _WhenUsed(_HEAVY)
    try:
        configuration = importlib.import_module(f"{_PACKAGE}.client.configuration")
        client: Any = shells[f"{_PACKAGE}.client"]
        client.Configuration = configuration.Configuration
        client.ApiClient = None  # named in annotations and in helpers that are not used here
        return _import_whole()
    finally:
        if isinstance(sys.modules.get(_HEAVY), _WhenUsed):
            del sys.modules[_HEAVY]
        for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]


class _WhenUsed(ModuleType):
    """Stands for a module, which is imported when one of its attributes is asked for.

    Not importlib's LazyLoader: its modules run their code when *any* attribute is read, and every later `import` of a
    module that is there already reads `__spec__`.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _shell(name: str) -> ModuleType:
    """Return a package object that finds its submodules but has run no code."""
    root = importlib.util.find_spec(_PACKAGE) if name == _PACKAGE else None
    spec = root or importlib.machinery.PathFinder.find_spec(name, _root_locations())
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"{name} is not installed")
    module = ModuleType(name)
    module.__path__ = list(spec.submodule_search_locations)
    module.__spec__ = spec
    return module


def _root_locations() -> list[str]:
    spec = importlib.util.find_spec(_PACKAGE)
    return list(spec.submodule_search_locations or []) if spec is not None else []
