"""The gateway's middle: what is offered under which name, who may use it, and where a call goes.

Knows no protocol era and no HTTP. `aggregate` is pure; `snapshot` is what it produces; `gateway` keeps the current one.
"""
