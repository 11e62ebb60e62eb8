"""Everything between the core and a backend: eras, sessions, streams, catalogue, health and circuit breaker."""
