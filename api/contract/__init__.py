"""What the operator and the gateway agree on: the configuration file, names, URL and header rules.

One model for writer and reader, in two dialects (`Dialect.NATIVE`, `Dialect.TOOLHIVE`). Nothing here does IO.

Reading, in the gateway::

    from api.contract import ConfigErrors, load_config

    try:
        config = load_config(data, env=os.environ)  # bytes or str, YAML or JSON, plain or gzip
    except ConfigErrors as errors:
        for error in errors.errors:
            ...  # ConfigError(path, message), every mistake at once

`load_config` returns a frozen `VmcpConfig` whose `operational` is complete. Attributes are the snake_case of the keys:
`config.backends[0].ca_bundle_path`, `config.outgoing_auth.default.token_exchange`, durations are
`Duration` (an int of nanoseconds with `.seconds`), absent text is `""`, absent lists `()`, absent sections `None`.
`parse_config` checks keys and types only; `validate_config` the meaning, as a tuple of `ConfigError`.

Writing, in the operator: `dump_config(config, dialect) -> bytes`, `pack_config(bytes) -> gzip bytes`.

Names: `api.contract.identifiers` and `api.contract.volumes`; auth: `api.contract.strategies`; `validate_remote_url`,
`header_problems`, `header_name_problem`, `header_value_problem`, `passthrough_problem`; values of Secrets:
`api.contract.secrets`.
"""

from api.contract.auth import (
    OIDC,
    Authz,
    AwsSts,
    HeaderInjection,
    IncomingAuth,
    Obo,
    OutgoingAuth,
    RoleMapping,
    Strategy,
    TokenExchange,
    UpstreamInject,
    Xaa,
)
from api.contract.composite import (
    Annotations,
    CompositeTool,
    CompositeToolRef,
    OnAnswer,
    OnError,
    Output,
    OutputProperty,
    Step,
)
from api.contract.config import (
    Aggregation,
    ConflictResolutionConfig,
    Dialect,
    HeaderForward,
    StaticBackend,
    ToolConfigRef,
    ToolOverride,
    VmcpConfig,
    WorkloadTools,
)
from api.contract.defaults import default_operational, with_defaults
from api.contract.dialect import dialect_errors, to_dialect
from api.contract.duration import Duration
from api.contract.errors import ConfigError, ConfigErrors
from api.contract.headers import (
    RESTRICTED_HEADERS,
    HeaderProblem,
    canonical_header,
    header_name_problem,
    header_problems,
    header_value_problem,
    is_header_name,
    is_restricted_header,
    passthrough_problem,
)
from api.contract.loader import MAX_CONFIG_BYTES, dump_config, load_config, pack_config, parse_config
from api.contract.operations import (
    Audit,
    Bucket,
    CircuitBreaker,
    CodeMode,
    FailureHandling,
    Operational,
    Optimizer,
    RateLimiting,
    SessionStorage,
    Telemetry,
    Timeouts,
    ToolLimit,
)
from api.contract.urls import validate_remote_url
from api.contract.validation import validate_config

__all__ = [
    "MAX_CONFIG_BYTES",
    "OIDC",
    "RESTRICTED_HEADERS",
    "Aggregation",
    "Annotations",
    "Audit",
    "Authz",
    "AwsSts",
    "Bucket",
    "CircuitBreaker",
    "CodeMode",
    "CompositeTool",
    "CompositeToolRef",
    "ConfigError",
    "ConfigErrors",
    "ConflictResolutionConfig",
    "Dialect",
    "Duration",
    "FailureHandling",
    "HeaderForward",
    "HeaderInjection",
    "HeaderProblem",
    "IncomingAuth",
    "Obo",
    "OnAnswer",
    "OnError",
    "Operational",
    "Optimizer",
    "OutgoingAuth",
    "Output",
    "OutputProperty",
    "RateLimiting",
    "RoleMapping",
    "SessionStorage",
    "StaticBackend",
    "Step",
    "Strategy",
    "Telemetry",
    "Timeouts",
    "TokenExchange",
    "ToolConfigRef",
    "ToolLimit",
    "ToolOverride",
    "UpstreamInject",
    "VmcpConfig",
    "WorkloadTools",
    "Xaa",
    "canonical_header",
    "default_operational",
    "dialect_errors",
    "dump_config",
    "header_name_problem",
    "header_problems",
    "header_value_problem",
    "is_header_name",
    "is_restricted_header",
    "load_config",
    "pack_config",
    "parse_config",
    "passthrough_problem",
    "to_dialect",
    "validate_config",
    "validate_remote_url",
    "with_defaults",
]
