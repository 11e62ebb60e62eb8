"""What the kinds share: the base of every model, schema markers, references and nested types.

Nothing here does IO. `api.v1beta1` builds the kinds from these parts, `api.contract` the gateway's configuration file.
"""
