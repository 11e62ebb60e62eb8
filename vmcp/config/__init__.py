"""Configuration: loading, secrets, what this version refuses, and reload."""
