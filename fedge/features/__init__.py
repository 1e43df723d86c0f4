"""What a query is and how it becomes arrays. Numpy only, the same bytes on every platform and under every hash seed.

A feature specification travels inside the release manifest as a plain mapping, so that the device encodes a query exactly as
the workbench did.
"""

from fedge.features.content import content_hash, normalized_text
from fedge.features.pixels import PixelFeatures
from fedge.features.query import Queries, Query
from fedge.features.spec import FeatureSpec, features_from_mapping
from fedge.features.text import TextFeatures

__all__ = [
    "FeatureSpec",
    "PixelFeatures",
    "Queries",
    "Query",
    "TextFeatures",
    "content_hash",
    "features_from_mapping",
    "normalized_text",
]
