"""What an account may do."""

from enum import StrEnum


class Role(StrEnum):
    """``VIEWER`` sees everything, ``OPERATOR`` acts, too."""

    VIEWER = "viewer"
    OPERATOR = "operator"
