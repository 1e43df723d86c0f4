from protos.fedge.secagg.v1 import secagg_pb2 as _secagg_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckInRequest(_message.Message):
    __slots__ = ("round", "attempt", "task")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    task: _secagg_pb2.Task
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., task: _Optional[_Union[_secagg_pb2.Task, _Mapping]] = ...) -> None: ...

class CheckInResponse(_message.Message):
    __slots__ = ("device_id", "bundle", "nothing_to_report")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    NOTHING_TO_REPORT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    bundle: bytes
    nothing_to_report: bool
    def __init__(self, device_id: _Optional[str] = ..., bundle: _Optional[bytes] = ..., nothing_to_report: _Optional[bool] = ...) -> None: ...
