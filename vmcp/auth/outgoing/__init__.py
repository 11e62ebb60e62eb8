"""Authentication towards backends: one module per strategy, and the registry that knows them all."""
