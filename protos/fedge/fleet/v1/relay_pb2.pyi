from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RelayRequest(_message.Message):
    __slots__ = ("path", "body", "public_key", "timestamp", "signature")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    path: str
    body: bytes
    public_key: str
    timestamp: str
    signature: str
    def __init__(self, path: _Optional[str] = ..., body: _Optional[bytes] = ..., public_key: _Optional[str] = ..., timestamp: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...

class RelayResponse(_message.Message):
    __slots__ = ("status", "body")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("path", "body_bytes", "public_key", "timestamp", "signature", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    body_bytes: int
    public_key: str
    timestamp: str
    signature: str
    data: bytes
    def __init__(self, path: _Optional[str] = ..., body_bytes: _Optional[int] = ..., public_key: _Optional[str] = ..., timestamp: _Optional[str] = ..., signature: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("status", "body")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    status: int
    body: bytes
    def __init__(self, status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("path", "body", "public_key", "timestamp", "signature")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    path: str
    body: bytes
    public_key: str
    timestamp: str
    signature: str
    def __init__(self, path: _Optional[str] = ..., body: _Optional[bytes] = ..., public_key: _Optional[str] = ..., timestamp: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...

class PullResponse(_message.Message):
    __slots__ = ("status", "data")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    status: int
    data: bytes
    def __init__(self, status: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
