"""The manager: owns what controllers share, starts it in order and stops it in reverse."""
