"""What the controllers of several kinds share."""
