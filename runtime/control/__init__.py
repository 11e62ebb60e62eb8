"""Controllers: what wakes them, how a reconcile is run, and what follows from its end."""
