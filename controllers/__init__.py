"""One package per kind: what it watches, what it decides, what it writes."""
