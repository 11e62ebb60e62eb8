"""Leader election: one writer at a time, also when processes hang, stop and come back."""
