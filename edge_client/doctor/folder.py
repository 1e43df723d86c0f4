"""The device's folder: settings, keys, certificates and the disk under it. Reads only; no key is shown or leaves."""

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from edge_client.doctor.finding import Finding, fail, ok, warn
from edge_client.doctor.times import Validity, moment
from edge_client.settings import DeviceHome, DeviceSettings
from fedge.errors import InputError

LEAST_DISK_MB, GOOD_DISK_MB = 64, 512
RENEWED_AT = 2 / 3
ENROL = "fedge device enroll with a new token"


@dataclass(frozen=True, slots=True)
class Papers:
    """What the folder says of the certificates: findings, and the times in which they hold."""

    findings: list[Finding]
    validities: list[Validity]


def read(home: DeviceHome) -> tuple[DeviceSettings | None, Finding]:
    """The settings, if they can be used."""
    if not home.settings_file.exists():
        if home.folder.exists() and (not home.folder.is_dir() or any(home.folder.iterdir())):
            says = f"{home.folder} holds something else: no {home.settings_file.name} is in it"
            return None, fail(
                "settings", says, "name the device's folder with --home, or finish joining: fedge device enroll"
            )
        says = f"{home.settings_file} does not exist: this device has not joined a fleet"
        return None, warn("settings", says, "fedge device enroll")
    try:
        settings = home.settings()
    except InputError as error:
        return None, fail("settings", str(error), "docs/configuration.md lists every setting")
    return settings, ok("settings", f"{home.settings_file}: device {settings.device_id}")


def disk(folder: Path) -> Finding:
    """Room for releases, the database and its journal."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    free = shutil.disk_usage(there).free // 2**20
    says = f"{free} MB free at {there}"
    if not os.access(there, os.W_OK):
        return fail("disk", f"{there} cannot be written", "is the card read-only (it is worn then), or another user's?")
    if free < LEAST_DISK_MB:
        remedy = f"free at least {LEAST_DISK_MB} MB: on a full disk answers are not recorded, and no release comes"
        return fail("disk", says, remedy)
    if free < GOOD_DISK_MB:
        return warn("disk", says, f"free some space: {GOOD_DISK_MB} MB leave room for a new release beside the old one")
    return ok("disk", says)


def papers(home: DeviceHome, now: float) -> Papers:
    """Keys with their modes, certificates with their age."""
    findings = [found for key in (home.identity_key, home.tls_key, home.node_key) if (found := _key(key))]
    validities = []
    for what, path in (
        ("the TLS certificate", home.tls_certificate),
        ("the identity certificate", home.identity_certificate),
    ):
        try:
            validity = _validity(what, path.read_bytes())
        except OSError as error:
            findings.append(fail("certificate", f"{path} cannot be read: {error.strerror}", ENROL))
        except ValueError as error:
            findings.append(fail("certificate", f"{path} is no certificate: {str(error)[:120]}", ENROL))
        else:
            validities.append(validity)
            findings.append(_age(validity, now))
    return Papers(findings, validities)


def validity_of(what: str, der: bytes) -> Validity:
    """The time in which a certificate (DER) holds. Raises ValueError."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return Validity(what, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())


def _validity(what: str, data: bytes) -> Validity:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    if data.startswith(b"-----BEGIN"):
        data = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
    return validity_of(what, data)


def _age(validity: Validity, now: float) -> Finding:
    what = validity.what
    left = validity.ends - now
    if now < validity.begins:
        return fail("certificate", f"{what} begins only at {moment(validity.begins)}", "look at the clock first")
    if left <= 0:
        says = f"{what} ended at {moment(validity.ends)}"
        return fail("certificate", says, f"start the agent, which asks for a new one; where that is refused: {ENROL}")
    says = f"{what} holds for {left / 3600:.1f} hours more"
    if now > validity.begins + RENEWED_AT * (validity.ends - validity.begins):
        return warn("certificate", says, "it should have been renewed by now: does the agent run, and reach the door?")
    return ok("certificate", says)


def _key(path: Path) -> Finding | None:
    """What is wrong with a key's file, if anything."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return fail("keys", f"{path} is missing", ENROL)
    except OSError as error:
        return fail("keys", f"{path} cannot be looked at: {error.strerror}", "run the doctor as the device's own user")
    if mode & 0o077:
        return fail(
            "keys", f"{path} may be read by others (mode {mode:04o})", f"chmod 600 {path}, and enrol anew if others used it"
        )
    return None
