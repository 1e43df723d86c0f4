"""Keeps gRPC to TLS 1.3. Its Python has no switch for the minimum version, but its list of TLS 1.2 suites can be set.

The one suite left there needs an RSA key. Ours are ECDSA, so a handshake in TLS 1.2 finds no suite and fails; suites of TLS
1.3 are not governed by that list. gRPC reads the variable once, when it is imported: `aggregator`, `edge_client` and `cli`
set it before any module of theirs can. Whoever serves asks `is_assured`, and checks the version on each call as well.
"""

import os
import sys

_VARIABLE, _RSA_ONLY = "GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384"
_was_late = False


def require_tls13() -> None:
    """For this process and its children. Takes effect where gRPC was not imported before."""
    global _was_late  # noqa: PLW0603 - what it speaks of is the process, too
    if os.environ.get(_VARIABLE) != _RSA_ONLY:
        _was_late = "grpc" in sys.modules
        os.environ[_VARIABLE] = _RSA_ONLY


def is_assured() -> bool:
    """Whether gRPC cannot but speak TLS 1.3 with ECDSA certificates in this process."""
    return not _was_late and os.environ.get(_VARIABLE) == _RSA_ONLY
