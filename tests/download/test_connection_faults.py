"""Faults of proxies, certificates and addresses: each has one sentence that names its cause and its cure.

The proxies and the hub with a certificate of its own are real servers on this machine.
"""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stage import MODEL_ID, screen, wait_until

from helpers.download import network

LOWER = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PROXIES = (*LOWER, *(name.upper() for name in LOWER))


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that gives the same answer to everybody; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    if connection.recv(4096):
                        connection.sendall(answer)
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.close()


def through_proxy(stage, proxy: str, variable: str = "http_proxy", hub: str = "http://hub.example") -> None:
    """Let the learner's commands ask a hub that only this proxy can reach."""
    for name in PROXIES:
        stage.environment.pop(name, None)
    stage.environment |= {"MODELSCOPE_ENDPOINT": hub, variable: proxy}


def refused_permanently(stage, *words) -> str:
    """The sentence, which must not advise to run the same again."""
    text = stage.refused(*words)
    assert "run this again" not in text
    return text


# Proxies


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
def test_socks_without_the_package(stage, variable, scheme):
    with answering(b"") as port:
        through_proxy(stage, f"{scheme}://127.0.0.1:{port}", variable)
        refused_permanently(stage, "SOCKS", "pip install pysocks", f"unset {variable}")


MALFORMED = [
    "http://127.0.0.1:port",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:-1",
    "127.0.0.1:port",
    "http://:8080",
    "http://",
    "http://[::1",
    "http://a b:80",
    "htp://127.0.0.1:1",
    "ftp://127.0.0.1:21",
    "http://127.0.0.1:80:80",
    "<your proxy>",
    "http://127.0.0.1:80 ",
    "http://127.0.0.1:80\t",
    "socks://127.0.0.1:1080",
]


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", MALFORMED)
def test_malformed_proxies(stage, proxy, variable):
    through_proxy(stage, proxy, variable)
    refused_permanently(stage, variable, "no address", "correct it", "unset it")


@pytest.mark.parametrize("hub", ["http://127.0.0.1:port", "https://", "http://127.0.0.1:99999", "http://a b"])
def test_malformed_endpoints(stage, hub):
    through_proxy(stage, "", hub=hub)
    refused_permanently(stage, "MODELSCOPE_ENDPOINT", "no address", "correct it")


def test_a_password_in_the_proxy_is_not_shown(stage):
    through_proxy(stage, "http://learner:geheim@127.0.0.1:port")
    text = refused_permanently(stage, "no address")
    assert "geheim" not in text
    assert network.without_password("http://learner:ge@heim@host:1") == "http://host:1"


WANTS_PASSWORD = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
FORBIDS = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "hub, variable", [("http://hub.example", "http_proxy"), ("https://hub.example", "https_proxy")]
)
def test_a_proxy_that_wants_a_password(stage, hub, variable):
    with answering(WANTS_PASSWORD) as port:
        through_proxy(stage, f"http://127.0.0.1:{port}", variable, hub)
        refused_permanently(stage, variable, "wants a name and a password", "NAME:PASSWORD@")


def test_a_proxy_that_forbids(stage):
    with answering(FORBIDS) as port:
        through_proxy(stage, f"http://127.0.0.1:{port}", "https_proxy", "https://hub.example")
        refused_permanently(stage, "https_proxy", "HTTP 403", "unset")


def test_a_proxy_that_speaks_http_where_https_is_set(stage):
    with answering(FORBIDS) as port:
        through_proxy(stage, f"https://127.0.0.1:{port}", "https_proxy", "https://hub.example")
        refused_permanently(stage, "https_proxy", "speaks http, not https", "http://host:port")


def test_a_proxy_that_is_not_running(stage):
    through_proxy(stage, "http://127.0.0.1:9", "http_proxy")
    refused_permanently(
        stage, "127.0.0.1:9", "http_proxy", "nothing listens", "start it, or unset http_proxy"
    )


# Certificates


@pytest.fixture
def secure(stage, tmp_path):
    """A function that gives the hub a certificate of no known authority, for some host; returns its file."""
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl to make a certificate with")

    def make(names: str = "IP:127.0.0.1") -> Path:
        key = tmp_path / "key.pem"
        certificate = tmp_path / "certificate.pem"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        command += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=a company's network"]
        subprocess.run([*command, "-addext", f"subjectAltName={names}"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        stage.hub.socket = context.wrap_socket(stage.hub.socket, server_side=True)
        for name in PROXIES:
            stage.environment.pop(name, None)
        stage.environment["MODELSCOPE_ENDPOINT"] = f"https://127.0.0.1:{stage.hub.server_port}"
        return certificate

    return make


def test_a_private_certificate_and_its_cure(stage, secure):
    certificate = secure()
    refused_permanently(stage, "from no authority that Python knows", "REQUESTS_CA_BUNDLE=")
    stage.environment["REQUESTS_CA_BUNDLE"] = str(certificate)
    stage.completes()


def test_a_certificate_of_another_host(stage, secure):
    stage.environment["REQUESTS_CA_BUNDLE"] = str(secure("DNS:login.example"))
    refused_permanently(stage, "belongs to another host", "log in")


def test_a_bundle_of_certificates_that_is_not_there(stage, secure):
    secure()
    stage.environment["REQUESTS_CA_BUNDLE"] = str(stage.tmp / "no-such.pem")
    refused_permanently(stage, "REQUESTS_CA_BUNDLE", "not there", "unset")


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"])
def test_a_bundle_without_certificates(stage, secure, content):
    secure()
    (stage.tmp / "bundle.pem").write_text(content)
    stage.environment["REQUESTS_CA_BUNDLE"] = str(stage.tmp / "bundle.pem")
    refused_permanently(stage, "REQUESTS_CA_BUNDLE", "holds no certificate", "unset")


def test_https_where_http_is_spoken(stage):
    through_proxy(stage, "", hub=stage.hub.environment["MODELSCOPE_ENDPOINT"].replace("http:", "https:"))
    refused_permanently(stage, "speaks http, not https", "http://")


# Tokens, and answers that lead nowhere


@pytest.mark.parametrize("token", ["密码", "a\nb"])
def test_a_token_with_signs_that_no_token_has(stage, token):
    stage.environment["MODELSCOPE_API_TOKEN"] = token
    refused_permanently(stage, "MODELSCOPE_API_TOKEN")


def test_answers_that_lead_in_a_circle(stage):
    def redirect(handler):
        handler.seen.status = 302
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    stage.hub.on_list = redirect
    refused_permanently(stage, "in a circle", "log in")
    stage.completes()


@pytest.mark.parametrize(
    "status, words",
    [
        (407, "password"),
        (400, "check the name"),
        (410, "check the name"),
        (451, "another model"),
        (511, "log in"),
    ],
)
def test_statuses_that_another_try_does_not_change(stage, status, words):
    stage.hub.on_list = lambda handler: handler.fail(status)
    refused_permanently(stage, words)
    stage.completes()


def test_a_hub_that_takes_its_time_is_waited_for_in_public(stage):
    go_on = threading.Event()

    def wait(handler):
        go_on.wait(60)

    stage.hub.on_list = wait
    process = stage.start()
    wait_until(lambda: "asking the hub for its list" in screen(process))
    go_on.set()
    status, text = stage.finish(process)
    assert status == 0, text
    assert f"{MODEL_ID}: 6 files" in text
