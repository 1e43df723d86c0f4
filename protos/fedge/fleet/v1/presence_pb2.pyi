from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnergySource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENERGY_SOURCE_UNSPECIFIED: _ClassVar[EnergySource]
    ENERGY_SOURCE_UNKNOWN: _ClassVar[EnergySource]
    ENERGY_SOURCE_MAINS: _ClassVar[EnergySource]
    ENERGY_SOURCE_BATTERY: _ClassVar[EnergySource]
ENERGY_SOURCE_UNSPECIFIED: EnergySource
ENERGY_SOURCE_UNKNOWN: EnergySource
ENERGY_SOURCE_MAINS: EnergySource
ENERGY_SOURCE_BATTERY: EnergySource

class ReportRequest(_message.Message):
    __slots__ = ("release_id", "release_on_trial", "given_up_release_id", "energy_source", "energy_sensor", "profile", "queue_questions", "fedge_version")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ON_TRIAL_FIELD_NUMBER: _ClassVar[int]
    GIVEN_UP_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SENSOR_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    FEDGE_VERSION_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    release_on_trial: bool
    given_up_release_id: str
    energy_source: EnergySource
    energy_sensor: str
    profile: str
    queue_questions: int
    fedge_version: str
    def __init__(self, release_id: _Optional[str] = ..., release_on_trial: _Optional[bool] = ..., given_up_release_id: _Optional[str] = ..., energy_source: _Optional[_Union[EnergySource, str]] = ..., energy_sensor: _Optional[str] = ..., profile: _Optional[str] = ..., queue_questions: _Optional[int] = ..., fedge_version: _Optional[str] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("server_time_s",)
    SERVER_TIME_S_FIELD_NUMBER: _ClassVar[int]
    server_time_s: float
    def __init__(self, server_time_s: _Optional[float] = ...) -> None: ...
