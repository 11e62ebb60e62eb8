"""The work queue of a controller: which key next, when again, and never the same key twice at once."""
