"""verify_client_certificate_metadata (gorouter reference 6.1): who is let in by the name in a certificate."""

from __future__ import annotations

import dataclasses
import datetime
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from router.config.config_file import parse
from router.config.settings import DistinguishedName, MetadataRule, Settings
from router.tls import check
from router.tls.pem import read_certificates
from router.tls.subjects import SubjectRules, subject_of, text_of
from tests.router.tls.authority import HOST, OWN, client_context, connect
from tests.router.wire import OK, RunningEdge, answering, backend, running_edge, wait_until

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

ROOT = trustme.CA(organization_name="Instances", organization_unit_name="root")
INTERMEDIATE = ROOT.create_child_ca()
OTHER = trustme.CA(organization_name="Others", organization_unit_name="root")


def pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


def subject(ca: trustme.CA) -> DistinguishedName:
    return subject_of(read_certificates(pem(ca))[0])


def leaf(ca: trustme.CA, name: str) -> trustme.LeafCert:
    return ca.issue_cert(
        "client.test", organization_name="Acme", organization_unit_name=name, common_name="client", key_type=EC
    )


EC = trustme.KeyType.ECDSA


def allowed(name: str) -> DistinguishedName:
    """The subject of what ``leaf`` makes."""
    return DistinguishedName(organization=("Acme",), organizational_unit=(name,), common_name="client")


GOOD = allowed("good")


def https(*rules: MetadataRule, cas: tuple[trustme.CA, ...] = (ROOT, OTHER), **changes: Any) -> Settings:
    settings = Settings(
        enable_ssl=True,
        tls_pem=(OWN,),
        client_cert_validation="request",
        client_ca_certs="".join(map(pem, cas)),
        only_trust_client_ca_certs=True,
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=rules,
    )
    return dataclasses.replace(settings, **changes)


@contextmanager
def serving(settings: Settings) -> Iterator[RunningEdge]:
    with backend(answering(OK)) as app, running_edge(settings) as edge:
        edge.register(HOST, app.port)
        yield edge


def served(edge: RunningEdge, cert: trustme.LeafCert | None, version: ssl.TLSVersion = TLS13) -> bytes:
    wire = connect(edge.tls_port, client_context(version=version, cert=cert))
    try:
        wire.send(GET)
        return wire.message().body
    finally:
        wire.close()


def refused(edge: RunningEdge, cert: trustme.LeafCert, version: ssl.TLSVersion = TLS13) -> str:
    """What the client is told; in TLS 1.3 only when it reads."""
    before = edge.metrics.tls_handshakes_failed
    with pytest.raises(ssl.SSLError) as told:
        served(edge, cert, version)
    wait_until(lambda: edge.metrics.tls_handshakes_failed == before + 1)
    wait_until(lambda: not edge.metrics.client_connections)
    return str(told.value).lower()


class TestHandshakes:
    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_a_subject_of_the_list_is_let_in_and_no_other(self, version: ssl.TLSVersion) -> None:
        with serving(https(MetadataRule(subject(ROOT), (allowed("another"), GOOD)))) as edge:
            assert served(edge, leaf(ROOT, "good"), version) == b"ok"
            told = refused(edge, leaf(ROOT, "bad"), version)
            assert ("bad certificate" if version == TLS12 else "alert") in told
            assert edge.metrics.requests == 1

    def test_the_ca_counts_wherever_it_stands_in_the_chain(self) -> None:
        with serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            assert served(edge, leaf(INTERMEDIATE, "good")) == b"ok"
            assert refused(edge, leaf(INTERMEDIATE, "bad"))

    def test_even_above_a_ca_that_is_trusted_itself(self) -> None:
        settings = https(MetadataRule(subject(ROOT), (GOOD,)), cas=(INTERMEDIATE, ROOT))
        with serving(settings) as edge:
            assert served(edge, leaf(INTERMEDIATE, "good")) == b"ok"
            assert refused(edge, leaf(INTERMEDIATE, "bad"))

    def test_certificates_of_other_cas_are_not_the_rules_matter(self) -> None:
        with serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            assert served(edge, leaf(OTHER, "bad")) == b"ok"

    def test_each_ca_has_its_own_list(self) -> None:
        rules = MetadataRule(subject(ROOT), (GOOD,)), MetadataRule(subject(OTHER), (allowed("other"),))
        with serving(https(*rules)) as edge:
            assert served(edge, leaf(OTHER, "other")) == b"ok"
            assert refused(edge, leaf(OTHER, "good"))
            assert refused(edge, leaf(ROOT, "other"))

    def test_who_shows_none_is_let_in_where_none_is_required(self) -> None:
        with serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            assert served(edge, None) == b"ok"

    def test_a_certificate_that_is_not_good_fails_before_any_rule(self) -> None:
        stranger = trustme.CA(organization_name="Instances", organization_unit_name="root")
        with serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            assert "unknown ca" in refused(edge, leaf(stranger, "good"))

    def test_switched_off_rules_mean_nothing(self) -> None:
        rule = MetadataRule(subject(ROOT), (GOOD,))
        with serving(https(rule, enable_verify_client_certificate_metadata=False)) as edge:
            assert served(edge, leaf(ROOT, "bad")) == b"ok"

    def test_a_refusal_is_logged_in_the_words_of_the_setting(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", "router.tls"), serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            assert refused(edge, leaf(ROOT, "bad"))
        (record,) = [record for record in caplog.records if record.message == "client-certificate-refused"]
        assert "organization=Acme,organizational_unit=bad,common_name=client" in record.data["why"]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_a_session_of_who_was_let_in_is_resumed(self, version: ssl.TLSVersion) -> None:
        with serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            context = client_context(version=version, cert=leaf(ROOT, "good"))
            wire = connect(edge.tls_port, context)
            wire.send(GET)
            assert wire.message().body == b"ok"
            session = wire.socket.session  # type: ignore[attr-defined]
            wire.close()
            again = connect(edge.tls_port, context, session=session)
            again.send(GET)
            assert again.message().body == b"ok"
            assert edge.metrics.tls_handshakes_resumed == 1
            again.close()

    def test_a_ticket_that_came_with_a_refusal_opens_nothing(self) -> None:
        with serving(https(MetadataRule(subject(ROOT), (GOOD,)))) as edge:
            context = client_context(version=TLS13, cert=leaf(INTERMEDIATE, "bad"))
            wire = connect(edge.tls_port, context)
            with pytest.raises(ssl.SSLError):
                wire.socket.recv(1)
            session = wire.socket.session  # type: ignore[attr-defined]
            assert session.has_ticket
            with pytest.raises(ssl.SSLError):
                connect(edge.tls_port, context, session=session).socket.recv(1)
            assert edge.metrics.tls_handshakes == 0
            wait_until(lambda: edge.metrics.tls_handshakes_failed == 2)

    def test_a_certificate_that_nobody_remembers_is_looked_at_anew(self) -> None:
        rule = MetadataRule(subject(ROOT), (GOOD,))
        with serving(https(rule)) as edge:
            subjects = edge.listeners._tls.subjects  # type: ignore[union-attr]
            for ca, known in ((ROOT, True), (INTERMEDIATE, False)):
                context = client_context(version=TLS13, cert=leaf(ca, "good"))
                wire = connect(edge.tls_port, context)
                wire.send(GET)
                assert wire.message().body == b"ok"
                session = wire.socket.session  # type: ignore[attr-defined]
                edge.do(subjects._let_in.clear)  # type: ignore[union-attr]
                again = connect(edge.tls_port, context, session=session)
                if known:
                    again.send(GET)
                    assert again.message().body == b"ok"
                else:
                    with pytest.raises(ssl.SSLError):
                        again.socket.recv(1)


class TestNames:
    """Every field of a name that a rule may hold."""

    FIELDS = DistinguishedName(
        country=("US",),
        organization=("Acme", "Acme East"),
        organizational_unit=("app:one", "space:two"),
        locality=("Here",),
        province=("There",),
        street_address=("1 Road",),
        postal_code=("12345",),
        common_name="client",
        serial_number="7",
    )
    OIDS = (
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.ORGANIZATION_NAME, "Acme"),
        (NameOID.ORGANIZATION_NAME, "Acme East"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "app:one"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "space:two"),
        (NameOID.LOCALITY_NAME, "Here"),
        (NameOID.STATE_OR_PROVINCE_NAME, "There"),
        (NameOID.STREET_ADDRESS, "1 Road"),
        (NameOID.POSTAL_CODE, "12345"),
        (NameOID.COMMON_NAME, "client"),
        (NameOID.SERIAL_NUMBER, "7"),
    )

    @staticmethod
    def certificate(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(*attribute) for attribute in attributes])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        return builder.sign(key, hashes.SHA256())

    def test_all_are_read(self) -> None:
        assert subject_of(self.certificate(*self.OIDS)) == self.FIELDS

    def test_of_a_field_with_one_value_the_last_counts(self) -> None:
        twice = self.certificate((NameOID.COMMON_NAME, "a"), (NameOID.COMMON_NAME, "b"))
        assert subject_of(twice) == DistinguishedName(common_name="b")

    @pytest.mark.parametrize("left_out", range(len(OIDS)))
    def test_a_name_that_lacks_one_value_is_another_name(self, left_out: int) -> None:
        lacking = self.certificate(*(each for index, each in enumerate(self.OIDS) if index != left_out))
        assert subject_of(lacking) != self.FIELDS

    def test_the_order_of_a_fields_values_counts_that_of_fields_does_not(self) -> None:
        assert subject_of(self.certificate(*sorted(self.OIDS, key=lambda each: each[0].dotted_string))) == self.FIELDS
        assert subject_of(self.certificate(*reversed(self.OIDS))) != self.FIELDS

    def test_fields_that_rules_cannot_name_are_not_looked_at(self) -> None:
        assert subject_of(self.certificate(*self.OIDS, (NameOID.EMAIL_ADDRESS, "a@b.test"))) == self.FIELDS

    def test_a_chain_that_is_not_known_is_looked_for_among_the_cas(self) -> None:
        rules = SubjectRules([MetadataRule(subject(ROOT), (GOOD,))], read_certificates(pem(INTERMEDIATE) + pem(ROOT)))
        (shown, *_) = x509.load_pem_x509_certificates(leaf(INTERMEDIATE, "bad").cert_chain_pems[0].bytes())
        assert "organizational_unit=bad" in rules.objection_to(shown.public_bytes(serialization.Encoding.DER), [])


class TestStart:
    def test_a_rule_for_a_ca_that_is_not_there_is_an_error(self) -> None:
        unknown = DistinguishedName(organization=("Nobody",), common_name="ca")
        problems = check.problems(https(MetadataRule(subject(ROOT), (GOOD,)), MetadataRule(unknown, (GOOD,))))
        assert problems == [
            "verify_client_certificate_metadata[1].issuer_in_chain: no CA in client_ca_certs has the subject "
            "organization=Nobody,common_name=ca; mend the name, each field of it, or add the CA"
        ]
        assert not check.problems(https(MetadataRule(subject(ROOT), (GOOD,))))

    def test_unless_rules_are_switched_off(self) -> None:
        rule = MetadataRule(DistinguishedName(common_name="x"), ())
        assert not check.problems(https(rule, enable_verify_client_certificate_metadata=False))

    def test_rules_are_read_from_the_file(self) -> None:
        text = """
            enable_verify_client_certificate_metadata: true
            verify_client_certificate_metadata:
              - issuer_in_chain: {common_name: the-ca, organization: [Acme]}
                valid_cert_subjects:
                  - {organization: [Acme], organizational_unit: [good], common_name: client}
        """
        settings = parse(text, "x.yml")
        rule = MetadataRule(DistinguishedName(organization=("Acme",), common_name="the-ca"), (GOOD,))
        assert settings.verify_client_certificate_metadata == (rule,)

    def test_an_empty_name_is_told_readably(self) -> None:
        assert text_of(DistinguishedName()) == "(empty)"
