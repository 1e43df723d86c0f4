"""Amounts as a person says them: time in its fitting unit, how many of what, and what a record's key means."""

_UNITS = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"))


def duration(seconds: float) -> str:
    """Whole units, the largest of which it is one exactly or more than one and a half: "1 hour", "80 minutes", "3 days"."""
    for size, unit in _UNITS:
        if seconds == size or seconds > 1.5 * size:
            return counted(round(seconds / size), unit)
    return counted(round(seconds), "second")


def counted(number: int, one: str) -> str:
    """How many of what; thousands are set apart."""
    many = f"{one[:-1]}ies" if one.endswith("y") and one[-2] not in "aeiou" else f"{one}s"
    return f"{number:,} {one if number == 1 else many}"


def words(key: str) -> str:
    """A key of the record as it is read; what a step of the protocol asks for stands after a full stop."""
    return key.removeprefix("query.").replace("_", " ").replace(".", ", ")
