"""Informers: a local copy of declared kinds that follows the server.

`reflector` keeps up with the server, `store` holds the objects and the own writes, `informer` joins them for one kind,
`cache` for all kinds. Reads are dictionary look-ups.
"""

from runtime.cache.cache import Cache, Reader, UndeclaredInformerError
from runtime.cache.handlers import Change, Handler, Registration
from runtime.cache.informer import Informer, InformerStats
from runtime.cache.options import InformerOptions
from runtime.cache.states import ReflectorSettings

__all__ = [
    "Cache",
    "Change",
    "Handler",
    "Informer",
    "InformerOptions",
    "InformerStats",
    "Reader",
    "ReflectorSettings",
    "Registration",
    "UndeclaredInformerError",
]
