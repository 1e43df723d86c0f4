import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedge.errors import InputError, VerificationError
from fedge.identity import (
    DeviceIdentity,
    issue_certificate,
    load_identity,
    load_or_create_key,
    new_certificate_authority,
    save_certificate,
)

CA = new_certificate_authority("fedge", not_before=0, not_after=1e9)
CA_KEY = CA.private_key.public_key()


def certificate_for(key, device_id="d1", not_after=1000.0):
    return issue_certificate(CA.private_key, CA.name, device_id, key.public_key(), not_before=0.0, not_after=not_after)


def test_a_device_keeps_its_key_and_swaps_its_certificate(tmp_path):
    folder = tmp_path / "state" / "device"
    key = load_or_create_key(folder)
    assert (folder / "identity.pem").stat().st_mode & 0o777 == 0o600
    assert load_or_create_key(folder).private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(InputError, match="enrol this device first"):
        load_identity(folder, CA_KEY, now=5.0)
    save_certificate(folder, certificate_for(key))
    save_certificate(folder, certificate_for(key, not_after=2000.0))
    identity = load_identity(folder, CA_KEY, now=1500.0)
    assert identity.device_id == "d1"
    assert sorted(path.name for path in folder.iterdir()) == ["identity.der", "identity.pem"]


def test_an_expired_certificate_or_one_for_another_key_is_no_identity(tmp_path):
    key = load_or_create_key(tmp_path)
    save_certificate(tmp_path, certificate_for(key))
    with pytest.raises(VerificationError, match="expired"):
        load_identity(tmp_path, CA_KEY, now=1001.0)
    save_certificate(tmp_path, certificate_for(Ed25519PrivateKey.generate()))
    with pytest.raises(VerificationError, match="another key"):
        load_identity(tmp_path, CA_KEY, now=5.0)
    with pytest.raises(VerificationError, match="names d1"):
        DeviceIdentity("d2", key, certificate_for(key)).verify(CA_KEY, 5.0)
    with pytest.raises(InputError):
        DeviceIdentity("d 2", key, b"")
