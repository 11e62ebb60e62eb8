"""The kinds, and the contract between the operator and the gateway. No IO."""
