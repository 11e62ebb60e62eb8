"""Authorization by Cedar policies."""
