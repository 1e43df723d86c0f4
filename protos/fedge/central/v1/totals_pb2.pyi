from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RosterTotalsRequest(_message.Message):
    __slots__ = ("descriptor", "signature")
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    descriptor: bytes
    signature: bytes
    def __init__(self, descriptor: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RosterTotalsResponse(_message.Message):
    __slots__ = ("answered", "agreed", "disagreed")
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    answered: int
    agreed: int
    disagreed: int
    def __init__(self, answered: _Optional[int] = ..., agreed: _Optional[int] = ..., disagreed: _Optional[int] = ...) -> None: ...
