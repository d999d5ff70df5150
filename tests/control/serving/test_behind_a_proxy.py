"""Ollama behind what a company puts in front of it: a password (Basic authentication), a
certificate of a private authority."""

import base64
import datetime
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remote.control import secrets
from remote.control.config.inventory import OllamaEntry
from remote.control.errors import OllamaError
from remote.control.serving.find import Address, address_of, find_ollama
from remote.control.serving.ollama import Ollama

USER, PASSWORD = "träger", "p@ss:w/ord-long-enough"
QUOTED = "tr%C3%A4ger:p%40ss:w%2Ford-long-enough"


class _Proxy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self._answer(401, b"<html>401 Authorization Required</html>", "text/html")
            return
        self._answer(
            200, json.dumps({"version": "0.33.0", "models": []}).encode(), "application/json"
        )

    do_POST = do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="ollama"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that does not trust the certificate breaks off."""


Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _signed(name: str, by: Signed | None) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(1)
    issuer, signer = (by[0].subject, by[1]) if by else (subject, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if by:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
    else:
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
            ),
            False,
        )
        usage |= {
            "key_cert_sign": True,
            "crl_sign": True,
            "encipher_only": False,
            "decipher_only": False,
        }
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    return builder.sign(signer, hashes.SHA256()), key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and with server.pem (certificate and key) that it signed."""
    folder = tmp_path_factory.mktemp("authority")
    own = _signed("Company CA", None)
    leaf, key = _signed("127.0.0.1", own)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(own[0].public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(leaf.public_bytes(pem) + private)
    return folder


@pytest.fixture
def place(authority: Path) -> Iterator[str]:
    """`127.0.0.1:PORT` of a TLS server that asks for a password."""
    with _Server(("127.0.0.1", 0), _Proxy) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "server.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.setattr(secrets, "_learned", set())  # no other test is to have these masked
    for name in ("OLLAMA_HOST", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def told(error: OllamaError) -> str:
    """All that anybody gets to see of an error."""
    return (
        json.dumps(error.to_json()) + str(error) + repr(error.__cause__) + repr(error.__context__)
    )


def test_a_password_and_a_private_authority(
    place: str, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"https://{QUOTED}@{place}")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with find_ollama() as client:
        assert (
            client.version() == "0.33.0"
            and client.tags() == []
            and client.url == f"https://{place}"
        )
        assert client.has_blob(f"sha256:{'0' * 64}")
    assert secrets.masked(f"it said {PASSWORD} and {QUOTED}").count("word-long") == 0


def test_without_the_authority(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"https://{QUOTED}@{place}")
    with pytest.raises(OllamaError, match="certificate") as caught:
        find_ollama()
    assert "SSL_CERT_FILE" in caught.value.remedy and "word-long" not in told(caught.value)


@pytest.mark.parametrize("file", ["nowhere.pem", "empty.pem"])
def test_an_authority_that_is_none(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    (tmp_path / "empty.pem").write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / file))
    with pytest.raises(OllamaError, match="certificate") as caught:
        Ollama(f"https://{place}")
    assert "SSL_CERT_FILE" in caught.value.why


@pytest.mark.parametrize("sign_in", ["", "somebody@", "somebody:secret-that-is-wrong@"])
def test_without_the_password(
    place: str, authority: Path, monkeypatch: pytest.MonkeyPatch, sign_in: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"https://{sign_in}{place}")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with pytest.raises(OllamaError, match="asks who you are") as caught:
        find_ollama()
    assert (
        "OLLAMA_HOST" in caught.value.remedy
        and "401" in caught.value.why
        and "secret-that" not in told(caught.value)
    )
    with pytest.raises(OllamaError, match="asks who you are"), Ollama(f"https://{place}") as client:
        client.has_blob(f"sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("user:secret@host", Address("http://host:11434", ("user", "secret"))),
        ("https://user@host/a@b", Address("https://host:443/a@b", ("user", ""))),
        ("http://u:a%40b%3A@[::1]:9", Address("http://[::1]:9", ("u", "a@b:"))),
        ("http://u:a@b@host", Address("http://host:80", ("u", "a@b"))),
        ("host/with@at", Address("http://host:11434/with@at")),
    ],
)
def test_what_stands_before_the_host(host: str, address: Address) -> None:
    assert address_of(host) == address


HIDDEN = [
    "ftp://u:hidden-password@host",
    "u:hidden-password@host:port",
    "http://u:hidden-password@host?x=1",
    "host#x",
]


@pytest.mark.parametrize("host", HIDDEN)
def test_no_error_holds_the_password(host: str) -> None:
    with pytest.raises(OllamaError, match="not an address") as caught:
        address_of(host)
    assert "hidden-password" not in told(caught.value)


def test_the_inventory_holds_no_password() -> None:
    with pytest.raises(ValueError, match="OLLAMA_HOST"):
        OllamaEntry.model_validate({"url": "https://user:in-a-file@ollama.example"})
    assert (
        OllamaEntry.model_validate({"url": "https://ollama.example/a@b"}).url
        == "https://ollama.example/a@b"
    )
    assert "in-a-file" not in secrets.masked("https://user:in-a-file@ollama.example")
