"""Certificates that are used, and those that are refused with a reason."""

import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from agent.config import Settings
from agent.errors import ConfigError
from agent.gateway.tls import load_tls
from tests.helpers.certificate import Certificate, make_certificate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1", "kiosk.lan", "::1")


def load(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    return load_tls(Settings(tls_cert_file=cert, tls_key_file=key))


def test_without_files_there_is_none():
    assert load(None, None) is None


def test_a_certificate_and_its_key_are_used(made: Certificate):
    assert load(made.cert, made.key) is not None


def test_the_certificate_holds_every_name_and_the_key_is_private(made: Certificate):
    shown = subprocess.run(
        ["openssl", "x509", "-in", made.cert, "-noout", "-ext", "subjectAltName"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "IP Address:127.0.0.1" in shown
    assert "DNS:kiosk.lan" in shown
    assert "IP Address:0:0:0:0:0:0:0:1" in shown
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600


def test_one_file_alone_is_refused_by_the_name_of_the_other(made: Certificate):
    with pytest.raises(ConfigError, match=r"^tls_key_file: "):
        load(made.cert, None)
    with pytest.raises(ConfigError, match=r"^tls_cert_file: "):
        load(None, made.key)


def test_what_cannot_be_used_is_refused_with_a_reason(made: Certificate, tmp_path: Path):
    other = make_certificate(tmp_path / "other", "kiosk.lan")
    with pytest.raises(ConfigError, match="the key is not the certificate's"):
        load(made.cert, other.key)
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.pem", made.key)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    with pytest.raises(ConfigError, match="no PEM file"):
        load(nonsense, made.key)


def test_a_key_with_a_password_is_refused_without_asking_for_it(made: Certificate, tmp_path: Path):
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-in", made.key, "-out", locked, "-aes128", "-passout", "pass:secret"],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="password"):
        load(made.cert, locked)
