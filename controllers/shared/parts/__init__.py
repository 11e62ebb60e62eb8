"""What the objects come to that a gateway or a proxy refers to, whichever of the two it is.

`part` is the form of every result, `oidc`, `policies` and `telemetry` make one of a kind of object each, `learned` and
`learning` are what is known of Secrets and ConfigMaps. Whoever asks brings the words of its own conditions.
"""
