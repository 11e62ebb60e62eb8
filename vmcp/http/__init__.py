"""HTTP/1.1 at both ends of the gateway: `server` faces clients, `client` faces backends. Neither knows the other."""
