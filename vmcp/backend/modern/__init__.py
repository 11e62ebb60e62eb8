"""The modern era towards a backend (2026-07-28): discovery, stateless calls, subscriptions, mirrored parameters."""
