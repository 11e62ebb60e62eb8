"""A controller runtime on raw list/watch loops. Knows nothing of MCP."""
