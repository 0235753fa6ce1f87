"""The local authority: whom its certificates name, and when they are used again."""

from pathlib import Path

from cryptography import x509

from danbao_kit.testing.certificates import LOCAL_HOSTS, CertificateAuthority


def names_in(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def test_a_peer_is_exactly_one_name(tmp_path: Path) -> None:
    files = CertificateAuthority(tmp_path).issue("payments")
    assert names_in(files.cert) == ["payments.danbao.internal"]
    assert files.key.stat().st_mode & 0o777 == 0o600


def test_a_listener_is_also_found_on_this_machine(tmp_path: Path) -> None:
    files = CertificateAuthority(tmp_path).issue("gateway", file_name="listener", extra_hosts=LOCAL_HOSTS)
    assert names_in(files.cert) == ["gateway.danbao.internal", "localhost", "127.0.0.1"]


def test_certificates_are_used_again_while_they_are_good(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path).issue("escrow").cert.read_bytes()
    assert CertificateAuthority(tmp_path).issue("escrow").cert.read_bytes() == first


def test_a_new_authority_issues_anew(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path).issue("escrow").cert.read_bytes()
    (tmp_path / "ca.key").write_text("damaged")
    assert CertificateAuthority(tmp_path).issue("escrow").cert.read_bytes() != first
