"""Who vouches for whom in tests and on a laptop: one authority, one certificate a service.

    authority = CertificateAuthority(Path(".danbao/certificates"))
    files = authority.issue("payments")          # DNS name payments.danbao.internal

What is in the directory is used again while it is valid. Elsewhere the platform's own authority
issues the same names.
"""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOMAIN = "danbao.internal"
LOCAL_HOSTS = ("localhost", "127.0.0.1")

_AUTHORITY_LIFETIME = datetime.timedelta(days=365)
_LEAF_LIFETIME = datetime.timedelta(days=90)
_RENEW_BEFORE_END = datetime.timedelta(days=14)
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files of one peer: what it trusts, what it shows, and its key (mode 0600)."""

    ca: Path
    cert: Path
    key: Path


class CertificateAuthority:
    """Issues certificates into one directory, or finds those it issued before."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._certificate, self._key = self._load_or_make()

    @property
    def ca_path(self) -> Path:
        """The authority's own certificate, for clients to trust."""
        return self._directory / "ca.pem"

    def issue(self, name: str, *, file_name: str | None = None, extra_hosts: Sequence[str] = ()) -> CertificateFiles:
        """A certificate for NAME.danbao.internal and the given DNS names and IP addresses.

        `file_name` tells apart two certificates of one name, such as a gateway's listener
        (with extra hosts) and its client side (without: a peer is exactly one name).
        """
        return self.issue_for([f"{name}.{DOMAIN}", *extra_hosts], file_name=file_name or name)

    def issue_for(
        self, hosts: Sequence[str], *, file_name: str, valid: tuple[datetime.datetime, datetime.datetime] | None = None
    ) -> CertificateFiles:
        """A certificate for just these DNS names and IP addresses. `valid`: from when until when, else for 90 days."""
        cert_path = self._directory / f"{file_name}.pem"
        key_path = self._directory / f"{file_name}.key"
        if not self._is_usable(cert_path, key_path, hosts):
            key = ec.generate_private_key(ec.SECP256R1())
            _write(key_path, _key_pem(key))
            _write(cert_path, _cert_pem(self._sign(hosts, key, valid)), mode=0o644)
        return CertificateFiles(ca=self.ca_path, cert=cert_path, key=key_path)

    def _load_or_make(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key_path = self._directory / "ca.key"
        certificate, key = _load(self.ca_path, key_path)
        if certificate is not None and key is not None and _remains_valid(certificate):
            return certificate, key
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(key)
        _write(key_path, _key_pem(key))
        _write(self.ca_path, _cert_pem(certificate), mode=0o644)
        return certificate, key

    def _is_usable(self, cert_path: Path, key_path: Path, hosts: Sequence[str]) -> bool:
        certificate, key = _load(cert_path, key_path)
        if certificate is None or key is None or not _remains_valid(certificate):
            return False
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        if certificate.public_key() != key.public_key():
            return False
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value == _alternative_names(hosts)

    def _sign(
        self,
        hosts: Sequence[str],
        key: ec.EllipticCurvePrivateKey,
        valid: tuple[datetime.datetime, datetime.datetime] | None,
    ) -> x509.Certificate:
        return (
            _builder(hosts[0], valid or _from_now(_LEAF_LIFETIME))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .add_extension(_alternative_names(hosts), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    builder = _builder("Danbao local authority", _from_now(_AUTHORITY_LIFETIME))
    return (
        builder.issuer_name(_name("Danbao local authority"))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _from_now(lifetime: datetime.timedelta) -> tuple[datetime.datetime, datetime.datetime]:
    return _now() - _CLOCK_SKEW, _now() + lifetime


def _builder(common_name: str, valid: tuple[datetime.datetime, datetime.datetime]) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _remains_valid(certificate: x509.Certificate) -> bool:
    now = _now()
    started = certificate.not_valid_before_utc <= now
    return started and now + _RENEW_BEFORE_END < certificate.not_valid_after_utc


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _load(cert_path: Path, key_path: Path) -> tuple[x509.Certificate | None, ec.EllipticCurvePrivateKey | None]:
    """Both, or neither when one is missing or damaged."""
    try:
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (OSError, ValueError):
        return None, None
    return (certificate, key) if isinstance(key, ec.EllipticCurvePrivateKey) else (None, None)


def _cert_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
