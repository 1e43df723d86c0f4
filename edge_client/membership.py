"""What a member keeps of what the authority sends: certificates, the keys to trust, and who is revoked.

Everything is verified before it replaces what stands on disk, each file in one step, and nothing ever goes back: an older
trust root or revocation list than the one on disk is refused. Never opens a connection.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edge_client.settings import DeviceHome
from fedge.errors import InputError, VerificationError
from fedge.identity import RevocationList, TrustRoot, load_or_create_key
from fedge.identity.certificates import MAX_CERTIFICATE_BYTES
from fedge.identity.files import load_or_create_ec_key, make_private_folder, read_file, write_file
from fedge.identity.tls import certificate_span, key_bytes, read_pem
from fedge.identity.wish import Wish, make_wish
from fedge.release.document import MAX_DOCUMENT_BYTES
from fedge.release.signing import load_private_key, save_private_key
