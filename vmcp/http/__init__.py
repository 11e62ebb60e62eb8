"""The HTTP/1.1 client towards backends: pools, TLS, limits and timeouts behind one method."""
