"""What is asked of certificates, for every TLS connection of the operator and of the gateway."""

from __future__ import annotations

import ssl


def verify_flags(flags: ssl.VerifyFlags) -> ssl.VerifyFlags:
    """Return the flags of X.509 verification that are right whatever this Python's defaults are.

    Python 3.13 began to set VERIFY_X509_STRICT: it refuses authorities without key identifiers, as EKS and many private
    ones are made, though kubectl (Go) and every browser accept them. It also began to accept a trusted certificate that
    is not self-signed as the end of a chain, as Go always has.
    """
    return (flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
