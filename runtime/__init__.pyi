# The names that a controller needs, each once: type checkers read them here, and `__init__.py` learns here from which
# module each is to be loaded.

from runtime.cache import Reader as Reader
from runtime.client import Client as Client
from runtime.control.builder import Builder as Builder
from runtime.control.controller import ControllerOptions as ControllerOptions
from runtime.control.predicates import Event as Event
from runtime.control.predicates import generation_changed as generation_changed
from runtime.control.predicates import never as never
from runtime.control.reconcile import Reconciler as Reconciler
from runtime.control.reconcile import Request as Request
from runtime.control.reconcile import Result as Result
from runtime.control.reconcile import TerminalError as TerminalError
from runtime.election.options import ElectionOptions as ElectionOptions
from runtime.events.recorder import Recorder as Recorder
from runtime.manager.manager import Manager as Manager
from runtime.manager.options import ManagerOptions as ManagerOptions
from runtime.util.conditions import Condition as Condition
from runtime.util.conditions import parse_conditions as parse_conditions
from runtime.util.conditions import remove_condition as remove_condition
from runtime.util.conditions import set_condition as set_condition
from runtime.util.finalizers import add_finalizer as add_finalizer
from runtime.util.finalizers import remove_finalizer as remove_finalizer
from runtime.util.owner import controller_reference as controller_reference
from runtime.util.owner import set_controller_reference as set_controller_reference
from runtime.util.rbac import PolicyRule as PolicyRule
from runtime.wire.errors import AlreadyExistsError as AlreadyExistsError
from runtime.wire.errors import ApiError as ApiError
from runtime.wire.errors import ConflictError as ConflictError
from runtime.wire.errors import ForbiddenError as ForbiddenError
from runtime.wire.errors import InvalidError as InvalidError
from runtime.wire.errors import NotFoundError as NotFoundError
from runtime.wire.errors import ServerError as ServerError
from runtime.wire.errors import TransportError as TransportError
from runtime.wire.gvk import Key as Key
from runtime.wire.gvk import Resource as Resource
from runtime.wire.record import Record as Record
