"""Small helpers that every controller needs: conditions, owner references, finalizers."""
