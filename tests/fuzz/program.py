"""Edits of valid messages that a fuzzer can steer: its bytes are read as a program of small changes.

Where a signature or a hash stands in front of a decoder, random bytes never reach what lies behind. So a target takes a
valid message, changes its fields as the program says, signs it again and hands that in. The empty program changes nothing.
"""

from contextlib import suppress

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_LIMIT = 40  # edits in one program: bounds the time of a run, not what can be reached
_INTERESTING = (0, 1, 2, 3, 4, 5, 6, 127, 128, 255, 256, 65_535, 65_536, 2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)
_REALS = (0.0, -0.0, 1.0, -1.0, 5e-324, 1e300, -1e300, 1e-300, float("inf"), float("-inf"), float("nan"), 1_500.0)
_SMALLEST = {Field.CPPTYPE_INT32: -(2**31), Field.CPPTYPE_INT64: -(2**63), Field.CPPTYPE_ENUM: -(2**31)}
_LARGEST = {
    Field.CPPTYPE_INT32: 2**31 - 1,
    Field.CPPTYPE_ENUM: 2**31 - 1,
    Field.CPPTYPE_UINT32: 2**32 - 1,
    Field.CPPTYPE_INT64: 2**63 - 1,
    Field.CPPTYPE_UINT64: 2**64 - 1,
}


class Program:
    """Numbers and bytes from the fuzzer's input, zeros once it is used up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        """Whether any input is left."""
        return self.at < len(self.data)

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken

    def number(self, below: int) -> int:
        """0 to ``below`` - 1, from one byte, or two where one does not reach."""
        return int.from_bytes(self.take(1 if below <= 256 else 2), "big") % below

    def rest(self) -> bytes:
        return self.take(len(self.data))


def edited_bytes(data: bytes, program: Program) -> bytes:
    """``data`` with a piece of it overwritten, removed, doubled, or followed by more; or all of it replaced."""
    at = program.number(len(data) + 1)
    match program.number(6):
        case 0:
            piece = program.take(1 + program.number(8))
            return data[:at] + piece + data[at + len(piece) :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + 1 + program.number(64) :]
        case 3:
            return data[:at] + data[at : at + 64] + data[at:]
        case 4:
            return data + bytes(1 + program.number(256))
        case _:
            return program.take(program.number(256))


def edit(message: Message, program: Program) -> None:
    """Changes fields of ``message``, nested ones too, until the program ends."""
    for _ in range(_LIMIT):
        if not program:
            return
        with suppress(ValueError):  # an enum of ONNX takes only the values that it names
            _edit_one(message, program)


def _edit_one(message: Message, program: Program) -> None:
    fields = message.DESCRIPTOR.fields
    field = fields[program.number(len(fields))]
    if field.is_repeated:
        _edit_repeated(getattr(message, field.name), field, program)
    elif field.cpp_type == Field.CPPTYPE_MESSAGE:
        if program.number(8) == 7:
            message.ClearField(field.name)
        else:
            nested = getattr(message, field.name)
            nested.SetInParent()
            _edit_one(nested, program)
    elif program.number(8) == 7:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(getattr(message, field.name), field, program))


def _edit_repeated(values, field: Field, program: Program) -> None:
    index = program.number(len(values)) if len(values) else 0
    match program.number(5):
        case 0 if len(values):
            del values[index]
        case 1 if len(values):
            other = (
                values[index]
                if field.cpp_type != Field.CPPTYPE_MESSAGE
                else type(values[index]).FromString(values[index].SerializeToString())
            )
            values.insert(program.number(len(values) + 1), other)
        case 2:
            values.add() if field.cpp_type == Field.CPPTYPE_MESSAGE else values.append(
                _scalar(_empty(field), field, program)
            )
        case 3 if len(values):
            values.insert(0, values.pop(index))
        case _ if len(values):
            if field.cpp_type == Field.CPPTYPE_MESSAGE:
                _edit_one(values[index], program)
            else:
                values[index] = _scalar(values[index], field, program)


def _empty(field: Field):
    return {Field.CPPTYPE_STRING: b"" if field.type == Field.TYPE_BYTES else ""}.get(field.cpp_type, 0)


def _scalar(value, field: Field, program: Program):
    match field.cpp_type:
        case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
            return edited_bytes(value, program)
        case Field.CPPTYPE_STRING:
            return edited_bytes(value.encode(), program).decode("utf-8", "replace")
        case Field.CPPTYPE_DOUBLE | Field.CPPTYPE_FLOAT:
            return _REALS[program.number(len(_REALS))]
        case Field.CPPTYPE_BOOL:
            return not value
        case kind:
            at = program.number(2 * len(_INTERESTING))
            chosen = value + at - 3 * len(_INTERESTING) // 2 if at >= len(_INTERESTING) else _INTERESTING[at]
            return max(_SMALLEST.get(kind, 0), min(chosen, _LARGEST[kind]))


_JSON = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**53,
    10**400,
    0.5,
    -0.0,
    1e300,
    "",
    "a" * 300,
    "\ud800",
    "\0",
    [],
    {},
    [[]],
    {"a": 1},
)


def edited_json(value, program: Program):
    """A copy of a JSON value with members replaced, removed, doubled or swapped as the program says."""
    for _ in range(_LIMIT):
        if not program:
            break
        value = _json_edit(value, program)
    return value


def _json_edit(value, program: Program):
    if isinstance(value, dict) and value and program.number(8):
        keys = list(value)
        key = keys[program.number(len(keys))]
        match program.number(8):
            case 0:
                return {name: member for name, member in value.items() if name != key}
            case 1:
                return {**value, program.take(4).decode("latin-1"): value[key]}
            case 2:
                return {**value, key: value[keys[program.number(len(keys))]]}
            case _:
                return {**value, key: _json_edit(value[key], program)}
    if isinstance(value, list) and value and program.number(8):
        at = program.number(len(value))
        match program.number(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[:at], *value[at:], value[at]]
            case 2:
                return value[::-1]
            case _:
                return [*value[:at], _json_edit(value[at], program), *value[at + 1 :]]
    match program.number(4):
        case 0 if isinstance(value, str):
            return edited_bytes(value.encode("utf-8", "replace"), program).decode("utf-8", "replace")
        case 1 if isinstance(value, int | float) and not isinstance(value, bool):
            return [value + 1, value - 1, value * 2, float(value), -value][program.number(5)] if abs(value) < 2**60 else 0
        case _:
            return _JSON[program.number(len(_JSON))]
