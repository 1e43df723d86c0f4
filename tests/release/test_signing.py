import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError, VerificationError
from fedge.release import (
    CertificateDocument,
    SignedDocument,
    load_private_key,
    load_public_key,
    save_private_key,
    save_public_key,
    sign,
    verify,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
PUBLIC = KEY.public_key()
RELEASE, ANOTHER = "ab" * 32, "cd" * 32


def test_a_signature_verifies_for_its_key_purpose_and_payload_alone():
    signature = sign(KEY, "fedge/a/1", b"payload")
    verify(PUBLIC, "fedge/a/1", b"payload", signature)
    for key, domain, payload, attempt in [
        (OTHER.public_key(), "fedge/a/1", b"payload", signature),
        (PUBLIC, "fedge/b/1", b"payload", signature),
        (PUBLIC, "fedge/a/1p", b"ayload", signature),
        (PUBLIC, "fedge/a/1", b"Payload", signature),
        (PUBLIC, "fedge/a/1", b"payload", signature[:-1]),
        (PUBLIC, "fedge/a/1", b"payload", b""),
        (PUBLIC, "fedge/a/1", b"payload", KEY.sign(b"payload")),
    ]:
        with pytest.raises(VerificationError):
            verify(key, domain, payload, attempt)


def test_a_document_opens_only_as_signed():
    document = SignedDocument.sign(KEY, "fedge/x/1", b"\x00anything\xff")
    again = SignedDocument.from_bytes(document.to_bytes())
    assert again == document
    assert again.open(PUBLIC, "fedge/x/1") == b"\x00anything\xff"
    with pytest.raises(VerificationError):
        again.open(PUBLIC, "fedge/y/1")


def test_a_certificate_verifies_for_its_release_alone():
    document = CertificateDocument.sign(KEY, RELEASE, b"statement")
    assert CertificateDocument.from_bytes(document.to_bytes()).verify(PUBLIC, RELEASE) == b"statement"
    with pytest.raises(VerificationError, match="is for release"):
        document.verify(PUBLIC, ANOTHER)
    moved = CertificateDocument(ANOTHER, document.statement, document.signature)
    with pytest.raises(VerificationError, match="does not verify"):
        moved.verify(PUBLIC, ANOTHER)


@pytest.mark.parametrize("kind", [SignedDocument, CertificateDocument])
@given(data=st.data())
def test_a_mutated_document_is_refused_or_is_the_original(kind, data):
    if kind is SignedDocument:
        original = SignedDocument.sign(KEY, "d", b"some payload").to_bytes()
    else:
        original = CertificateDocument.sign(KEY, RELEASE, b"some statement").to_bytes()
    start = data.draw(st.integers(0, len(original)))
    stop = data.draw(st.integers(start, min(len(original), start + 4)))
    mutated = original[:start] + data.draw(st.binary(max_size=4) | st.text("0aA=", max_size=3).map(str.encode))
    mutated += original[stop:]
    try:
        document = kind.from_bytes(mutated)
        content = document.open(PUBLIC, "d") if kind is SignedDocument else document.verify(PUBLIC, RELEASE)
    except VerificationError:
        return
    assert mutated == original
    assert content in (b"some payload", b"some statement")


def test_keys_come_back_from_files_that_only_their_owner_reads(tmp_path):
    path = tmp_path / "key.pem"
    save_private_key(path, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_private_key(path).private_bytes_raw() == KEY.private_bytes_raw()
    save_public_key(tmp_path / "key.pub", PUBLIC)
    assert load_public_key(tmp_path / "key.pub") == PUBLIC


def test_a_key_file_is_never_overwritten_not_even_through_a_link(tmp_path):
    save_private_key(tmp_path / "key.pem", KEY)
    (tmp_path / "link.pem").symlink_to(tmp_path / "elsewhere.pem")
    for name in ("key.pem", "link.pem", "missing/key.pem"):
        with pytest.raises(InputError):
            save_private_key(tmp_path / name, OTHER)
    assert load_private_key(tmp_path / "key.pem").private_bytes_raw() == KEY.private_bytes_raw()
    assert not (tmp_path / "elsewhere.pem").exists()


def test_unusable_key_files_end_in_a_clear_error(tmp_path):
    save_private_key(tmp_path / "open.pem", KEY)
    (tmp_path / "open.pem").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        load_private_key(tmp_path / "open.pem")
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for name, data in {"other.pem": pem, "text.pem": b"hello", "empty.pem": b""}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
        with pytest.raises(InputError):
            load_private_key(tmp_path / name)
        with pytest.raises(InputError):
            load_public_key(tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        load_private_key(tmp_path / "missing.pem")
