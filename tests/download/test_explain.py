"""What is said of each kind of fault, whatever wraps it: table of faults, causes and cures."""

import errno
import socket
import ssl

import pytest
import requests
import urllib3
from modelscope_hub import FileIntegrityError
from modelscope_hub.errors import FileSizeMismatchError, NetworkError, NotExistError, ServerError

from helpers import CourseError
from helpers.download.errors import Advice, DownloadError
from helpers.download.faults import explain, of_status_number, one_sentence, status_faults, unwrap

HELPS = "run this again"
STOPPED = "The download stopped: {cause} ({cure})."


def disk(number: int) -> OSError:
    """What the operating system raises for this number."""
    return OSError(number, "as the system says it", "model-00001.safetensors")


def caused_by(outer: BaseException, inner: BaseException) -> BaseException:
    """An error as a library raises it around another one."""
    outer.__cause__ = inner
    return outer


def verification(message: str) -> requests.exceptions.SSLError:
    """A refused certificate, wrapped as requests wraps it."""
    inner = ssl.SSLCertVerificationError(
        1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}"
    )
    return requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(None, "/", inner))


FAULTS = [
    # fault, words of its cause, words of its cure, whether another try helps
    (disk(errno.ENOSPC), "disk is full", "cache_dir", False),
    (disk(errno.EDQUOT), "quota", "cache_dir", False),
    (disk(errno.EROFS), "read-only", "cache_dir", False),
    (disk(errno.EACCES), "may not write", "cache_dir", False),
    (disk(errno.EPERM), "may not write", "cache_dir", False),
    (disk(errno.EIO), "fault of its own", "cache_dir", False),
    (disk(errno.EFBIG), "no files of this size", "cache_dir", False),
    (disk(errno.ENAMETOOLONG), "name is too long", "cache_dir", False),
    (disk(errno.EMFILE), "too many files", "ulimit -n", False),
    (disk(errno.ESTALE), "network disk", "mount", True),
    (disk(errno.ENOTDIR), "in the way", "move it away", False),
    (disk(errno.EISDIR), "in the way", "move it away", False),
    (disk(errno.EBUSY), "another program", "end it", True),
    (MemoryError(), "no memory", "end other programs", True),
    (OSError(errno.ENOLCK, "No locks available"), "no locks", "MODELSCOPE_DOWNLOAD_FILE_LOCK=0", False),
    (OSError(errno.EOPNOTSUPP, "not supported"), "no locks", "cache_dir", False),
    (OSError(errno.ENOSYS, "not implemented"), "no locks", "MODELSCOPE_DOWNLOAD_FILE_LOCK=0", False),
    (caused_by(NetworkError("5 tries"), disk(errno.EDQUOT)), "quota", "cache_dir", False),
    (caused_by(NetworkError("5 tries"), disk(errno.EIO)), "fault of its own", "cache_dir", False),
    (verification("self-signed certificate"), "no authority", "REQUESTS_CA_BUNDLE", False),
    (
        verification("self-signed certificate in certificate chain"),
        "no authority",
        "REQUESTS_CA_BUNDLE",
        False,
    ),
    (verification("unable to get local issuer certificate"), "no authority", "REQUESTS_CA_BUNDLE", False),
    (
        verification("certificate revoked"),
        "does not accept the certificate, certificate revoked",
        "network",
        False,
    ),
    (verification("EE certificate key too weak"), "key too weak", "network", False),
    (verification("Basic Constraints of CA cert not marked critical"), "Basic Constraints", "network", False),
    (ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"), "is broken off", HELPS, True),
    (ssl.SSLZeroReturnError(6, "connection has been closed (EOF)"), "is broken off", HELPS, True),
    (ssl.SSLError("[X509: NO_CERTIFICATE_OR_CRL_FOUND]"), "holds no certificate", "unset", False),
    (
        requests.ConnectionError("All offered SOCKS5 authentication methods were rejected"),
        "a password",
        "NAME:",
        False,
    ),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), "no way there", "check its network", True),
    (caused_by(NetworkError("x"), OSError(errno.EHOSTUNREACH, "No route")), "no way there", "network", True),
    (disk(errno.EUCLEAN), "fault of its own", "cache_dir", False),
    (disk(errno.EHOSTDOWN), "network disk", "mount", True),
    (disk(errno.EINVAL), "no such name", "plain letters", False),
    (disk(errno.EMLINK), "as the system says it", "cache_dir", False),
    (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "no sign for", "plain letters", False),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "holds no text", "log in anew", False),
    (RuntimeError("can't start new thread"), "no more threads", "ulimit -u", False),
    (verification("certificate has expired"), "not valid at this time", "clock", False),
    (verification("certificate is not yet valid"), "not valid at this time", "clock", False),
    (verification("Hostname mismatch, certificate is not valid for 'hub'"), "another host", "log in", False),
    (ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION]"), "no secure connection", "proxy", False),
    (requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support."), "SOCKS", "pysocks", False),
    (requests.exceptions.ProxyError("Tunnel connection failed: 502 Bad Gateway"), "HTTP 502", "unset", False),
    (requests.exceptions.ProxyError("closed"), "proxy does not connect", "unset", False),
    (requests.exceptions.InvalidProxyURL("malformed"), "no usable address", "unset", False),
    (socket.gaierror(-2, "Name or service not known"), "name is not known", "network", False),
    (requests.exceptions.InvalidURL("no host"), "address", "MODELSCOPE_ENDPOINT", False),
    (requests.exceptions.TooManyRedirects("30"), "in a circle", "log in", False),
    (
        UnicodeEncodeError("latin-1", "密", 0, 1, "ordinal not in range"),
        "MODELSCOPE_API_TOKEN",
        "unset",
        False,
    ),
    (FileIntegrityError("hash"), "listed size or sha256", "later", False),
    (FileSizeMismatchError("size"), "listed size or sha256", "later", False),
    (NotExistError("gone", status_code=404), "no such thing", "check the name", False),
    (ServerError("down", status_code=503), "HTTP 503", HELPS, True),
    (requests.exceptions.ReadTimeout("30 s"), "no answer comes in time", HELPS, True),
    (ConnectionResetError(errno.ECONNRESET, "reset"), "breaking off", HELPS, True),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refuses the connection", "check", True),
    (requests.exceptions.ChunkedEncodingError("short"), "breaking off", HELPS, True),
    (caused_by(NetworkError("x"), requests.ConnectionError(disk(errno.EPERM))), "breaking off", HELPS, True),
    (ZeroDivisionError("division\nby zero"), "ZeroDivisionError: division by zero", "does not know", False),
]


@pytest.mark.parametrize("error, cause, cure, again", FAULTS, ids=lambda value: type(value).__name__)
def test_cause_and_cure(error, cause, cure, again, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fault = explain(error)
    assert cause in fault.cause.replace("a proxy", "proxy")
    assert cure in fault.cure.in_python
    assert ("again, it goes on" in fault.cure.in_python or "run this again" in fault.cure.in_python) == again


@pytest.mark.parametrize("error", [fault[0] for fault in FAULTS], ids=lambda value: type(value).__name__)
def test_every_fault_becomes_one_sentence(error):
    if not isinstance(
        error, OSError | MemoryError | UnicodeError | FileIntegrityError | NotExistError | ServerError
    ):
        pytest.skip("an error of the program itself stays what it is")
    with pytest.raises(DownloadError) as caught, one_sentence(STOPPED):
        raise error
    for text in (str(caught.value), caught.value.in_terminal):
        assert text.startswith("The download stopped: ")
        assert "\n" not in text


def test_an_error_of_the_course_passes_as_it_is():
    with pytest.raises(CourseError, match="as it is"), one_sentence(STOPPED):
        raise CourseError("as it is")


def test_an_error_names_arguments_in_python_and_flags_in_a_terminal():
    error = DownloadError(
        "{what}: {cure}.", Advice("pass cache_dir='/x'", "pass --cache-dir /x"), what="No room"
    )
    assert str(error) == "No room: pass cache_dir='/x'."
    assert error.in_terminal == "No room: pass --cache-dir /x."
    assert DownloadError("Down: {cure}.", Advice("wait")).in_terminal == "Down: wait."


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 408, 429])
def test_statuses_after_which_another_try_helps(status):
    assert HELPS in of_status_number(status).cure.in_python


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 410, 416, 451, 511])
def test_statuses_after_which_it_does_not(status):
    fault = of_status_number(status)
    assert HELPS not in fault.cure.in_python
    assert status in status_faults() or str(status) in fault.cause or "password" in fault.cause


def test_errors_that_contain_each_other_are_unwrapped_once():
    first = ValueError("first")
    second = ValueError("second", first)
    first.__cause__ = second
    assert unwrap(first) == [first, second]
