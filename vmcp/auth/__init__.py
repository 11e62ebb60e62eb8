"""Authentication, in both directions."""
