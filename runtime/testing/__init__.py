"""Tools for tests of operators: virtual time, and a proxy that breaks the API server in scripted ways."""
