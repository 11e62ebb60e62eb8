"""What the runtime costs per object, per event, at a start: measured against a cache of plain dictionaries."""
