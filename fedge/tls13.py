"""Keeps gRPC to TLS 1.3. Its Python has no switch for the minimum version, but its list of TLS 1.2 suites can be set.

The one suite left there needs an RSA key. Ours are ECDSA, so a handshake in TLS 1.2 finds no suite and fails; suites of TLS
1.3 are not governed by that list. gRPC reads the variable when it makes its first credentials, so this comes before. Whoever
serves also checks the version of each call's connection, in case something else in the process was first.
"""

import os

_VARIABLE, _RSA_ONLY = "GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384"


def require_tls13() -> None:
    """For this process and its children. Call before gRPC makes credentials."""
    os.environ[_VARIABLE] = _RSA_ONLY
