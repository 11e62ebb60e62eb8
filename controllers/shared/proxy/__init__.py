"""A proxy in front of one remote server, as a Deployment: what any kind needs that runs one.

    resolve    -> ProxyParts    what the references of its spec come to, and which Secrets and ConfigMaps matter
    render     -> Rendered      the document that the program reads, every object, and what cannot be served
    publish    -> Outcome       writes what differs

`proxies` takes one object through the three; `standing` says what came of it. All but `publish` and `proxies` is pure.
The words of conditions are the kind's own.
"""
