"""The identity of a query's content: equal hash, equal query. Used for probes, de-duplication and idempotency.

Never a secret: a short text can be guessed from its hash, so a hash that leaves the device is to be keyed first.
"""

import hashlib
import unicodedata

import numpy as np

from fedge.errors import InputError
from fedge.features.query import Query, checked_pixels


def normalized_text(text: str) -> str:
    """``text`` in case-folded, composed form (NFC) with single spaces: what two spellings of one query have in common.

    Raises InputError for a lone surrogate, which no encoding can carry.
    """
    folded = text.casefold()
    if not folded.isascii():
        try:
            folded.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the text {text[:40]!r} is no valid Unicode (a lone surrogate): send it as UTF-8") from error
        folded = unicodedata.normalize("NFC", folded)
    return " ".join(folded.split())


def content_hash(query: Query) -> bytes:
    """32 bytes (SHA-256) that name the content of a text (normalized) or of pixels ``float32 [d]`` (exact bits, -0 as 0)."""
    if isinstance(query, str):
        return hashlib.sha256(b"text\0" + normalized_text(query).encode()).digest()
    pixels = checked_pixels(query) + np.float32(0.0)
    if pixels.ndim != 1:
        raise InputError(f"one query is one vector of pixels, not an array of shape {pixels.shape}: flatten it")
    return hashlib.sha256(b"pixels\0" + pixels.astype("<f4").tobytes()).digest()
