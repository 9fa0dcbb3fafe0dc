"""Which certificate a client is shown, what happens when files change, and what is said of impossible settings."""

from __future__ import annotations

import dataclasses
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.config_file import ConfigError
from router.config.settings import Backends, Settings, TlsPem
from router.config.settings_rules import check as check_settings
from router.tls.certificates import BySni, Certificates, with_files_read
from router.tls.check import problems
from router.tls.contexts import UnknownCipher, cipher_names
from router.tls.key_pair import KeyPair
from router.tls.pem import BadKeyPair, read_pair
from tests.router.tls.authority import CA_PEM, HOST, OTHER_CA, OWN, chain_of, entry, issue

HTTPS = Settings(enable_ssl=True, tls_pem=(OWN,))
EC = read_pair(OWN.cert_chain, OWN.private_key)
RSA_ENTRY = entry(issue(HOST, ecdsa=False))


def named(*names: str, kind: str = "ecdsa", tag: str = "") -> KeyPair:
    """A pair that is told apart by its names, kind and tag; only the choice looks at it."""
    return dataclasses.replace(EC, names=names, kind=kind, key=tag)


class Choice(BySni):
    """Says which pairs a name gets."""

    def __init__(self, *pairs: KeyPair) -> None:
        self.made: dict[ssl.SSLContext, tuple[KeyPair, ...]] = {}
        super().__init__(pairs, self._note)

    def _note(self, pairs: object) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.made[context] = tuple(pairs)  # type: ignore[arg-type]
        return context

    def of(self, name: str | None) -> tuple[KeyPair, ...]:
        return self.made[self.context_for(name)]


class TestTheChoice:
    def test_exact_beats_wildcard_whatever_the_order(self) -> None:
        exact, wild = named("a.test.io"), named("*.test.io")
        for pairs in ((exact, wild), (wild, exact)):
            choice = Choice(*pairs)
            assert choice.of("a.test.io") == (exact,)
            assert choice.of("b.test.io") == (wild,)

    def test_a_wildcard_stands_for_one_label(self) -> None:
        first, wild = named("first"), named("*.test.io")
        choice = Choice(first, wild)
        for name in ("test.io", "a.b.test.io", "xtest.io", "", None, "*", "."):
            assert choice.of(name) == (first,)

    def test_case_and_a_final_dot_do_not_matter(self) -> None:
        assert Choice(named("first"), named("a.io")).of("A.io.") == (named("a.io"),)

    def test_later_ones_of_a_name_win(self) -> None:
        choice = Choice(named("a.io", tag="old"), named("a.io", tag="new"))
        assert choice.of("a.io") == (named("a.io", tag="new"),)

    def test_kinds_of_keys_stand_beside_each_other(self) -> None:
        rsa, ec = named("a.io", kind="rsa"), named("a.io")
        choice = Choice(rsa, ec)
        assert set(choice.of("a.io")) == set(choice.of(None)) == {rsa, ec}

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.lists(st.from_regex(r"(\*\.)?[ab](\.[ab]){0,2}", fullmatch=True), min_size=1, max_size=3),
            min_size=1,
            max_size=4,
        ),
        st.from_regex(r"[ab](\.[ab]){0,3}", fullmatch=True),
    )
    def test_what_is_chosen_has_the_name_or_is_the_first(self, names: list[list[str]], asked: str) -> None:
        pairs = [named(*each, tag=str(number)) for number, each in enumerate(names)]
        [chosen] = Choice(*pairs).of(asked)
        exact = [pair for pair in pairs if asked in pair.names]
        wild = [pair for pair in pairs if "*." + asked.partition(".")[2] in pair.names]
        first = [pair for pair in pairs if pair.names == pairs[0].names]
        assert chosen == (exact or wild or first[:1])[-1]


class TestReadingACertificate:
    def test_its_names_are_the_alternative_ones(self) -> None:
        cert = issue("A.test", "*.b.test", "127.0.0.1", cn="common.test")
        assert read_pair(chain_of(cert), cert.private_key_pem.bytes().decode()).names == ("a.test", "*.b.test")

    def test_a_key_is_never_shown(self) -> None:
        assert "PRIVATE" not in repr(EC)

    @pytest.mark.parametrize(
        ("chain", "key", "part", "why"),
        [
            ("", OWN.private_key, "cert", "is no certificate in PEM"),
            ("nonsense é", OWN.private_key, "cert", "is no certificate in PEM"),
            (OWN.cert_chain[:300], OWN.private_key, "cert", "is no certificate in PEM"),
            (OWN.cert_chain, "", "key", "is no private key in PEM"),
            (OWN.cert_chain, OWN.cert_chain, "key", "is no private key in PEM"),
            (OWN.cert_chain, RSA_ENTRY.private_key, "key", "does not belong to the first certificate"),
        ],
    )
    def test_what_is_wrong_is_said(self, chain: str, key: str, part: str, why: str) -> None:
        with pytest.raises(BadKeyPair, match=why) as caught:
            read_pair(chain, key)
        assert caught.value.part == part

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, len(OWN.cert_chain)), st.integers(0, len(OWN.cert_chain)), st.text(max_size=5))
    def test_any_damage_is_an_error_or_a_certificate(self, start: int, end: int, middle: str) -> None:
        damaged = OWN.cert_chain[:start] + middle + OWN.cert_chain[end:]
        with suppress(BadKeyPair):
            assert isinstance(read_pair(damaged, OWN.private_key), KeyPair)


@pytest.fixture
def files(tmp_path: Path) -> TlsPem:
    """A certificate in files."""
    made = TlsPem(cert_file=str(tmp_path / "cert.pem"), key_file=str(tmp_path / "key.pem"))
    write(made, OWN)
    return made


def write(where: TlsPem, what: TlsPem) -> None:
    Path(where.cert_file).write_text(what.cert_chain)
    Path(where.key_file).write_text(what.private_key)


class TestFilesThatChange:
    def test_nothing_new_is_nothing_done(self, files: TlsPem) -> None:
        certificates = Certificates(dataclasses.replace(HTTPS, tls_pem=(files,)), ())
        context = certificates.context
        assert not certificates.look()
        assert certificates.context is context

    def test_a_new_certificate_is_served(self, files: TlsPem) -> None:
        certificates = Certificates(dataclasses.replace(HTTPS, tls_pem=(OWN, files)), ())
        before = certificates.context
        write(files, entry(issue("new.test")))
        assert certificates.look()
        assert certificates.context is not before
        assert certificates._serving.context_for("new.test") is not certificates.context

    def test_a_broken_one_is_not_and_is_complained_about_once(
        self, files: TlsPem, caplog: pytest.LogCaptureFixture
    ) -> None:
        certificates = Certificates(dataclasses.replace(HTTPS, tls_pem=(files,)), ())
        before = certificates.context
        for broken in (
            dataclasses.replace(OWN, private_key="half"),
            dataclasses.replace(RSA_ENTRY, private_key=OWN.private_key),
        ):
            write(files, broken)
            caplog.clear()
            assert not certificates.look()
            assert not certificates.look()
            assert certificates.context is before
            [record] = caplog.records
            assert record.message == "tls-certificates-kept"
            assert files.key_file in str(record.__dict__["data"])
        Path(files.cert_file).unlink()
        assert not certificates.look()
        write(files, RSA_ENTRY)
        assert certificates.look()
        assert certificates.context is not before

    def test_a_worker_that_starts_meanwhile_serves_what_was_read_before(self, files: TlsPem) -> None:
        settings = with_files_read(dataclasses.replace(HTTPS, tls_pem=(files, OWN)))
        assert settings.tls_pem[0].private_key == OWN.private_key
        assert settings.tls_pem[1] == OWN
        Path(files.key_file).write_text("broken")
        assert Certificates(settings, ()).context
        with pytest.raises(BadKeyPair):
            Certificates(dataclasses.replace(HTTPS, tls_pem=(files,)), ())


class TestCipherSuites:
    def test_go_by_two_names(self) -> None:
        assert cipher_names(
            "ECDHE-RSA-AES128-GCM-SHA256: TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:TLS_RSA_WITH_AES_128_CBC_SHA"
            ":TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"
        ) == [
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "AES128-SHA",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-AES128-SHA256",
        ]

    @pytest.mark.parametrize("name", ["ALL", "TLS_AES_128_GCM_SHA256", "rc4", "@SECLEVEL=0", "!x", "HIGH"])
    def test_what_is_none_is_named(self, name: str) -> None:
        with pytest.raises(UnknownCipher, match=name):
            cipher_names(f"AES128-SHA:{name}")


class TestSettingsThatCannotWork:
    def test_good_ones_have_no_problems(self) -> None:
        assert problems(Settings()) == problems(HTTPS) == []
        full = dataclasses.replace(
            HTTPS,
            tls_pem=(OWN, RSA_ENTRY),
            ca_certs=(CA_PEM,),
            client_ca_certs=CA_PEM,
            client_cert_validation="require",
            only_trust_client_ca_certs=True,
            cipher_suites="ECDHE-RSA-AES128-GCM-SHA256",
            disable_http=True,
            backends=Backends(cert_chain=OWN.cert_chain, private_key=OWN.private_key),
        )
        assert problems(full) == []

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"tls_pem": ()}, "tls_pem is empty, but enable_ssl needs a certificate; give an item with"),
            ({"tls_pem": (TlsPem(),)}, "tls_pem[0]: give cert_chain and private_key, or cert_file and key_file"),
            ({"tls_pem": (OWN, TlsPem(cert_chain=CA_PEM))}, "tls_pem[1].private_key is not set"),
            ({"tls_pem": (TlsPem(key_file="x"),)}, "tls_pem[0].cert_file is not set"),
            (
                {"tls_pem": (dataclasses.replace(OWN, private_key=RSA_ENTRY.private_key),)},
                "tls_pem[0].private_key does not belong to the first certificate of the chain",
            ),
            (
                {"tls_pem": (TlsPem(cert_file="/nowhere", key_file="/x"),)},
                "tls_pem[0]: cannot read /nowhere: No such",
            ),
            (
                {"tls_pem": (dataclasses.replace(OWN, cert_chain=OWN.cert_chain + OWN.private_key),)},
                "tls_pem[0].cert_chain: holds a private key, which would be shown; move it to private_key",
            ),
            ({"min_tls_version": "TLSv1.3", "max_tls_version": "TLSv1.2"}, "min_tls_version: TLSv1.3 is above"),
            ({"cipher_suites": "AES128-SHA:NOPE"}, "cipher_suites: NOPE is no cipher suite"),
            ({"ca_certs": (CA_PEM, "x")}, "ca_certs[1]: is no certificate in PEM"),
            ({"client_ca_certs": "x"}, "client_ca_certs: is no certificate in PEM"),
            (
                {"client_cert_validation": "request", "only_trust_client_ca_certs": True},
                "client_ca_certs is not set, but only_trust_client_ca_certs says to trust nothing else",
            ),
            ({"backends": Backends(cert_chain=CA_PEM)}, "backends.private_key is not set, but backends.cert_chain is"),
            (
                {"backends": Backends(cert_chain=CA_PEM, private_key=OWN.private_key)},
                "backends.private_key does not belong",
            ),
            ({"enable_ssl": False, "disable_http": True}, "disable_http: without enable_ssl no traffic port is left"),
        ],
    )
    def test_are_said_with_the_key_and_the_fix(self, changes: dict[str, object], said: str) -> None:
        [problem] = problems(dataclasses.replace(HTTPS, **changes))  # type: ignore[arg-type]
        assert problem.startswith(said)

    def test_nothing_starts_with_them(self) -> None:
        native = dataclasses.replace(HTTPS.millrace, redis="redis://127.0.0.1/0")
        with pytest.raises(ConfigError, match="tls_pem is empty"):
            check_settings(dataclasses.replace(HTTPS, tls_pem=(), millrace=native))


def test_a_chain_with_its_authority_is_kept_whole() -> None:
    both = OWN.cert_chain + OTHER_CA.cert_pem.bytes().decode()
    assert read_pair(both, OWN.private_key).chain.count("BEGIN") == both.count("BEGIN")
