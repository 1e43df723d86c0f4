"""The list of architectures by name, and how a manifest's words become one of them."""

from collections.abc import Mapping
from typing import Any

from fedge.architectures.dense_head import DenseHead
from fedge.errors import InputError

Architecture = DenseHead
"""Any entry of the list: a frozen dataclass with NAME, sizes, and the methods of `DenseHead`."""

ARCHITECTURES: Mapping[str, type[Architecture]] = {DenseHead.NAME: DenseHead}


def architecture_from_mapping(mapping: object) -> Architecture:
    """Return the architecture that a manifest names. Raises InputError for an unknown name or unusable sizes."""
    if not isinstance(mapping, Mapping):
        raise InputError(f"architecture is {str(mapping)[:80]!r}, it must be an object with a name and sizes")
    name = mapping.get("name")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"architecture {str(name)[:80]!r} is unknown to this fedge, which has {known}: update it")
    sizes: dict[str, Any] = {key: value for key, value in mapping.items() if key != "name"}
    return ARCHITECTURES[name].from_mapping(sizes)
