"""A proxy in front of one remote server, as a Deployment: what any kind needs that runs one.

    resolve    -> ProxyParts    what the references of its spec come to, and which Secrets and ConfigMaps matter
    render     -> Rendered      the document that the program reads, every object, and what cannot be served
    publish    -> Outcome       writes what differs

`resolve` and `render` are pure. The spec is that of an MCPRemoteEndpoint of type proxy; a kind that says the same in
other words translates. The words of conditions are the kind's own.
"""
