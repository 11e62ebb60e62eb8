"""The wire formats: JSON-RPC envelopes, server-sent events, protocol constants and header values. No IO."""
