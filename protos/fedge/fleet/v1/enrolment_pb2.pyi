from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Wish(_message.Message):
    __slots__ = ("identity_request", "tls_request", "node_key", "protocol")
    IDENTITY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    TLS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    identity_request: bytes
    tls_request: bytes
    node_key: str
    protocol: int
    def __init__(self, identity_request: _Optional[bytes] = ..., tls_request: _Optional[bytes] = ..., node_key: _Optional[str] = ..., protocol: _Optional[int] = ...) -> None: ...

class Certificates(_message.Message):
    __slots__ = ("identity", "tls")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    identity: bytes
    tls: bytes
    def __init__(self, identity: _Optional[bytes] = ..., tls: _Optional[bytes] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("token", "wish")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    WISH_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    wish: Wish
    def __init__(self, token: _Optional[bytes] = ..., wish: _Optional[_Union[Wish, _Mapping]] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("certificates", "trust", "revocations", "tuf_root", "federation", "fleet_port", "central_port", "server_time_s", "protocol")
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    TUF_ROOT_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    FLEET_PORT_FIELD_NUMBER: _ClassVar[int]
    CENTRAL_PORT_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    certificates: Certificates
    trust: bytes
    revocations: bytes
    tuf_root: bytes
    federation: str
    fleet_port: int
    central_port: int
    server_time_s: float
    protocol: int
    def __init__(self, certificates: _Optional[_Union[Certificates, _Mapping]] = ..., trust: _Optional[bytes] = ..., revocations: _Optional[bytes] = ..., tuf_root: _Optional[bytes] = ..., federation: _Optional[str] = ..., fleet_port: _Optional[int] = ..., central_port: _Optional[int] = ..., server_time_s: _Optional[float] = ..., protocol: _Optional[int] = ...) -> None: ...

class ReturnRequest(_message.Message):
    __slots__ = ("wish", "trust_number")
    WISH_FIELD_NUMBER: _ClassVar[int]
    TRUST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    wish: Wish
    trust_number: int
    def __init__(self, wish: _Optional[_Union[Wish, _Mapping]] = ..., trust_number: _Optional[int] = ...) -> None: ...

class ReturnResponse(_message.Message):
    __slots__ = ("certificates", "server_time_s", "trust_roots", "protocol")
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    TRUST_ROOTS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    certificates: Certificates
    server_time_s: float
    trust_roots: _containers.RepeatedScalarFieldContainer[bytes]
    protocol: int
    def __init__(self, certificates: _Optional[_Union[Certificates, _Mapping]] = ..., server_time_s: _Optional[float] = ..., trust_roots: _Optional[_Iterable[bytes]] = ..., protocol: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("wish",)
    WISH_FIELD_NUMBER: _ClassVar[int]
    wish: Wish
    def __init__(self, wish: _Optional[_Union[Wish, _Mapping]] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificates", "server_time_s", "protocol")
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    certificates: Certificates
    server_time_s: float
    protocol: int
    def __init__(self, certificates: _Optional[_Union[Certificates, _Mapping]] = ..., server_time_s: _Optional[float] = ..., protocol: _Optional[int] = ...) -> None: ...

class RevocationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevocationsResponse(_message.Message):
    __slots__ = ("revocations", "server_time_s")
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    revocations: bytes
    server_time_s: float
    def __init__(self, revocations: _Optional[bytes] = ..., server_time_s: _Optional[float] = ...) -> None: ...

class TrustRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class TrustResponse(_message.Message):
    __slots__ = ("roots", "server_time_s")
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    roots: _containers.RepeatedScalarFieldContainer[bytes]
    server_time_s: float
    def __init__(self, roots: _Optional[_Iterable[bytes]] = ..., server_time_s: _Optional[float] = ...) -> None: ...
