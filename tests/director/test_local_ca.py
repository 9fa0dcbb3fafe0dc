"""The development authority: real TLS clients accept what it signs, it is made once, and it renews in time."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from director.local_ca import AUTHORITY_DAYS, CERTIFICATE_DAYS, RENEW_DAYS, InvalidAuthority, LocalAuthority

NAMES = ("localhost", "hello.localhost", "*.apps.localhost", "127.0.0.1", "::1")
NOW = datetime.now(UTC)


def authority(folder: Path, names: tuple[str, ...] = NAMES) -> LocalAuthority:
    return LocalAuthority(folder / "tls", names)


def contents(made: LocalAuthority) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in made.folder.iterdir()}


def greeted(made: LocalAuthority, name: str, trusted: Path | None = None) -> str:
    """What a client that trusts the authority reads from a server of its certificate; raises ssl.SSLError."""
    identity = made.identity
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(identity.chain, identity.key)
    asking = ssl.create_default_context(cafile=str(trusted or identity.authority))
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(there, server_side=True) as secure:
                secure.sendall(b"hello")
        except OSError:
            pass

    server = threading.Thread(target=serve)
    server.start()
    try:
        with here, asking.wrap_socket(here, server_hostname=name) as secure:
            return secure.recv(5).decode()
    finally:
        here.close()
        server.join(10)


@pytest.mark.parametrize("name", ["localhost", "hello.localhost", "one.apps.localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_accepts_the_certificate(tmp_path: Path, name: str) -> None:
    made = authority(tmp_path)
    assert made.ensure()
    assert greeted(made, name) == "hello"


@pytest.mark.parametrize("name", ["example.com", "a.b.apps.localhost", "127.0.0.2"])
def test_a_client_refuses_it_for_any_other_name(tmp_path: Path, name: str) -> None:
    made = authority(tmp_path)
    made.ensure()
    with pytest.raises(ssl.SSLCertVerificationError):
        greeted(made, name)


def test_even_its_key_cannot_sign_for_a_name_outside_its_constraints(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.ensure()
    thief = authority(tmp_path, ("bank.example.com",))
    assert thief.ensure()
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        greeted(thief, "bank.example.com")


def test_one_authority_is_not_trusted_for_anothers_certificate(tmp_path: Path) -> None:
    one, other = authority(tmp_path / "one"), authority(tmp_path / "other")
    one.ensure()
    other.ensure()
    with pytest.raises(ssl.SSLCertVerificationError):
        greeted(one, "localhost", trusted=other.identity.authority)


def test_keys_are_p256_and_nobody_elses_to_read(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.ensure()
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.folder.iterdir()} == {0o600}
    for path in (made.identity.chain, made.identity.authority):
        key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.folder.mkdir(mode=0o755)
    made.ensure()
    assert made.folder.stat().st_mode & 0o777 == 0o700


@pytest.fixture(scope="module")
def made_now(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    made = authority(tmp_path_factory.mktemp("ca"))
    made.ensure(NOW)
    return made


@given(st.integers(0, (CERTIFICATE_DAYS - RENEW_DAYS) * 24 - 1))
@settings(deadline=None)
def test_nothing_changes_while_the_certificate_is_far_from_its_end(made_now: LocalAuthority, hours: int) -> None:
    before = contents(made_now)
    assert not made_now.ensure(NOW + timedelta(hours=hours))
    assert contents(made_now) == before


def test_the_certificate_is_renewed_in_time_and_the_authority_stays(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.ensure(NOW)
    before, due = contents(made), made.renewal()
    assert due == (NOW + timedelta(days=CERTIFICATE_DAYS - RENEW_DAYS)).replace(microsecond=0)
    assert made.ensure(due)
    after = contents(made)
    assert {name for name in after if after[name] != before[name]} == {"cert.pem", "key.pem"}
    leaf, issuer = (x509.load_pem_x509_certificate(after[name]) for name in ("cert.pem", "ca.pem"))
    leaf.verify_directly_issued_by(issuer)
    assert made.renewal() > due


def test_the_authority_is_renewed_before_a_certificate_of_it_could_outlive_it(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.ensure(NOW)
    before = contents(made)
    late = NOW + timedelta(days=AUTHORITY_DAYS - CERTIFICATE_DAYS + 1)
    assert made.ensure(late)
    after = contents(made)
    assert all(after[name] != before[name] for name in ("ca.pem", "ca-key.pem", "cert.pem", "key.pem"))
    leaf, issuer = (x509.load_pem_x509_certificate(after[name]) for name in ("cert.pem", "ca.pem"))
    assert leaf.not_valid_after_utc < issuer.not_valid_after_utc


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
@pytest.mark.parametrize("damage", [None, b"", b"not a certificate"])
def test_a_certificate_that_is_missing_or_damaged_is_made_again(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    made = authority(tmp_path)
    made.ensure()
    before = contents(made)
    if damage is None:
        (made.folder / name).unlink()
    else:
        (made.folder / name).write_bytes(damage)
    assert made.ensure()
    assert contents(made)["ca.pem"] == before["ca.pem"]
    assert greeted(made, "localhost") == "hello"


def test_a_certificate_for_other_names_is_replaced(tmp_path: Path) -> None:
    authority(tmp_path, ("localhost",)).ensure()
    made = authority(tmp_path, ("localhost", "hello.localhost"))
    assert made.ensure()
    assert greeted(made, "hello.localhost") == "hello"


def test_an_authority_is_never_replaced_for_being_damaged(tmp_path: Path) -> None:
    made = authority(tmp_path)
    made.ensure()
    made.identity.authority.write_text("not a certificate")
    with pytest.raises(InvalidAuthority, match="remove that folder"):
        made.ensure()
    assert made.identity.authority.read_text() == "not a certificate"


def test_a_key_of_another_authority_is_told(tmp_path: Path) -> None:
    one, other = authority(tmp_path / "one"), authority(tmp_path / "other")
    one.ensure()
    other.ensure()
    (one.folder / "ca-key.pem").write_bytes((other.folder / "ca-key.pem").read_bytes())
    with pytest.raises(InvalidAuthority, match="is not the key of"):
        one.ensure()
