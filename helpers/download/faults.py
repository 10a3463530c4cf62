"""What a fault of the connection, the hub or the disk means for the learner: its cause, and what helps.

A fault arrives wrapped: ModelScope's client around requests, requests around urllib3, urllib3 around the
operating system. `explain` unwraps it and asks one rule after the other, from the most special one on. "Run
this again" is said only where running it again can help.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import requests
from modelscope_hub import FileIntegrityError, HubError
from urllib3.exceptions import HTTPError, NameResolutionError

from helpers import CourseError
from helpers.download.errors import AGAIN, ANOTHER_DISK, Advice, DownloadError
from helpers.download.network import NO_WAY_ERRORS, proxy_is_set, proxy_words


class Fault(NamedTuple):
    """A fault in words: its cause, and what helps against it."""

    cause: str
    cure: Advice


NAME = Advice("check the name and the revision")
LOGIN = Advice("open any page in a browser and log in to this network")
SOON = Advice("wait a minute, then run this again")
PROXY = Advice("start or correct it, or unset that variable")
REMOUNT = Advice(f"mount it again, then {AGAIN}")
MOVE_AWAY = Advice("move it away")
END_IT = Advice(f"end it, then {AGAIN}")

#: What the hub's answers mean that are no files.
STATUS = {
    400: Fault("it does not understand the question", NAME),
    401: Fault("it wants a login", Advice("check the name, or set MODELSCOPE_API_TOKEN")),
    403: Fault("it refuses access", Advice("check the name, or accept the terms on the model's page")),
    404: Fault("it has no such thing", NAME),
    429: Fault("it had too many requests", SOON),
    451: Fault("it may not give this out here", Advice("take another model")),
    511: Fault("this network wants a login first", LOGIN),
}

#: Errors of the operating system that come from a disk or a file system.
DISK = {
    errno.ENOSPC: Fault("the disk is full", ANOTHER_DISK),
    errno.EDQUOT: Fault("your quota on this disk is used up", ANOTHER_DISK),
    errno.EROFS: Fault("the file system is read-only", ANOTHER_DISK),
    errno.EACCES: Fault("this user may not write there", ANOTHER_DISK),
    errno.EPERM: Fault("this user may not write there", ANOTHER_DISK),
    errno.EFBIG: Fault("this file system holds no files of this size", ANOTHER_DISK),
    errno.EIO: Fault("the disk reports a fault of its own", ANOTHER_DISK),
    errno.ENAMETOOLONG: Fault("a name is too long for this file system", ANOTHER_DISK),
    errno.ENOENT: Fault("a folder is not there and cannot be made", ANOTHER_DISK),
    errno.ENODEV: Fault("the disk is gone", Advice(f"attach it, then {AGAIN}")),
    errno.ESTALE: Fault("the connection to the network disk is lost", REMOUNT),
    errno.ENOTCONN: Fault("the connection to the network disk is lost", REMOUNT),
    errno.EMFILE: Fault(
        "this process has too many files open", Advice("restart it; `ulimit -n` shows the limit")
    ),
    errno.ENFILE: Fault("this machine has too many files open", Advice("close other programs")),
    errno.ENOTDIR: Fault("a file is in the way where a folder has to be", MOVE_AWAY),
    errno.EEXIST: Fault("a file is in the way where a folder has to be", MOVE_AWAY),
    errno.EISDIR: Fault("a folder is in the way where a file has to be", MOVE_AWAY),
    errno.ENOTEMPTY: Fault("a folder is in the way where a file has to be", MOVE_AWAY),
    errno.ELOOP: Fault("a link leads to itself", Advice("remove it")),
    errno.ETXTBSY: Fault("another program uses the file", END_IT),
    errno.EBUSY: Fault("another program uses the file", END_IT),
    errno.ENOMEM: Fault("this machine has no memory left", Advice(f"end other programs, then {AGAIN}")),
}

WITHOUT_LOCKS = "or, if nothing else downloads there, set MODELSCOPE_DOWNLOAD_FILE_LOCK=0"
NO_LOCKS = Fault(
    "the file system there has no locks",
    Advice(f"{ANOTHER_DISK.in_python}, {WITHOUT_LOCKS}", f"{ANOTHER_DISK.in_terminal}, {WITHOUT_LOCKS}"),
)
#: What an attempt to lock a file answers on such a file system.
NO_LOCKS_ERRORS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)

NO_SUCH_NAME = Fault(
    "the file system takes no such name", Advice("use a folder whose name has plain letters only")
)
DISK |= {
    errno.EINVAL: NO_SUCH_NAME,
    errno.EILSEQ: NO_SUCH_NAME,
    errno.EUCLEAN: DISK[errno.EIO],
    errno.ENOMEDIUM: DISK[errno.ENODEV],
    errno.ENXIO: DISK[errno.ENODEV],
    errno.EREMOTEIO: DISK[errno.ESTALE],
    errno.EHOSTDOWN: DISK[errno.ESTALE],
}

NO_WAY = Fault("this machine has no way there", Advice(f"check its network, then {AGAIN}"))

#: What OpenSSL says of a certificate whose issuer is unknown.
NO_AUTHORITY = ("self-signed", "self signed", "issuer certificate", "first certificate", "untrusted")
#: What it says of a line that was cut.
CUT_OFF = ("UNEXPECTED_EOF", "EOF occurred", "closed (EOF)", "BAD_RECORD_MAC", "reset by peer")


def unwrap(error: BaseException) -> list[BaseException]:
    """The error and all that are inside it: its causes, and those that libraries put among its arguments."""
    found = []
    waiting = [error]
    while waiting:
        inner = waiting.pop(0)
        if not isinstance(inner, BaseException) or any(inner is one for one in found):
            continue
        found.append(inner)
        waiting += [inner.__cause__, inner.__context__, getattr(inner, "reason", None), *inner.args]
    return found


def of_status_number(status: int) -> Fault:
    """What an HTTP status of the hub, or of a proxy in between, means."""
    if status == 407:
        return proxy_wants_password()
    if status in STATUS:
        return STATUS[status]
    cause = f"it answers HTTP {status}"
    if status >= 500 or status in (408, 425):
        return Fault(cause, SOON)
    return Fault(cause, Advice("check the name, the revision and MODELSCOPE_ENDPOINT"))


def explain(error: BaseException) -> Fault:
    """Cause and cure of whatever went wrong."""
    chain = unwrap(error)
    text = " ".join(str(inner) for inner in chain)
    for rule in (of_answer, of_proxy, of_certificate, of_disk, of_address, of_connection):
        fault = rule(chain, text)
        if fault:
            return fault
    what = " ".join(str(error).split())[:160]
    return Fault(f"{type(error).__name__}: {what}", Advice("a fault that the course does not know"))


def of_answer(chain: list[BaseException], text: str) -> Fault | None:
    """The hub answers, but not with what the list of files promised."""
    for error in chain:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return of_status_number(status)
        if isinstance(error, FileIntegrityError):
            return Fault("what arrives has not the listed size or sha256", Advice("try again later"))
    return None


def proxy_wants_password() -> Fault:
    """The fault of a proxy that has to know who asks."""
    return Fault(
        f"{proxy_words()} wants a name and a password",
        Advice("write them into its address, http://NAME:PASSWORD@host:port, or unset that variable"),
    )


#: What the libraries say of a proxy that does not know who asks.
WANTS_PASSWORD = (
    "Tunnel connection failed: 407",
    "SOCKS5 authentication failed",
    "authentication methods were rejected",
)


def of_proxy(chain: list[BaseException], text: str) -> Fault | None:
    """A proxy that cannot be used as it is set."""
    if "Missing dependencies for SOCKS" in text:
        return Fault(
            f"{proxy_words()} speaks SOCKS, for which a package is missing",
            Advice("pip install pysocks, or unset that variable"),
        )
    if any(words in text for words in WANTS_PASSWORD):
        return proxy_wants_password()
    refused = re.search(r"Tunnel connection failed: (\d+)", text)
    if refused:
        return Fault(f"{proxy_words()} does not let this through, HTTP {refused[1]}", PROXY)
    if "appears to only use HTTP and not HTTPS" in text:
        return Fault(
            f"{proxy_words()} speaks http, not https", Advice("write its address as http://host:port")
        )
    if any(isinstance(error, requests.exceptions.InvalidProxyURL) for error in chain):
        return Fault(f"{proxy_words()} has no usable address", PROXY)
    return None


def of_certificate(chain: list[BaseException], text: str) -> Fault | None:
    """A certificate that Python does not accept, or an answer without one."""
    if "TLS CA certificate bundle" in text or "TLS certificate file" in text:
        return Fault(
            "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file that is not there",
            Advice("correct or unset it"),
        )
    if not any(isinstance(error, ssl.SSLError | requests.exceptions.SSLError) for error in chain):
        return None
    if "NO_CERTIFICATE_OR_CRL_FOUND" in text or "[X509" in text or "PEM lib" in text:
        return Fault(
            "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file that holds no certificate",
            Advice("correct or unset it"),
        )
    refused = of_refused_certificate(text)
    if refused:
        return refused
    if any(words in text for words in CUT_OFF):
        return broken_off("the secure connection is broken off")
    if "WRONG_VERSION_NUMBER" in text or "UNKNOWN_PROTOCOL" in text:
        return Fault("what answers there speaks http, not https", Advice("write the address with http://"))
    return Fault("no secure connection comes about", Advice("check the proxy and MODELSCOPE_ENDPOINT"))


def of_refused_certificate(text: str) -> Fault | None:
    """A certificate that Python has looked at and does not accept."""
    if "not yet valid" in text or "has expired" in text:
        return Fault(
            "the certificate is not valid at this time",
            Advice("check this machine's clock with `date`; if it is right, use another network"),
        )
    if "mismatch" in text or "doesn't match" in text:
        return Fault("the certificate belongs to another host, as that of a login page does", LOGIN)
    if any(words in text for words in NO_AUTHORITY):
        return Fault(
            "the certificate is from no authority that Python knows, as where a company reads its network",
            Advice("ask for that network's own certificate and set REQUESTS_CA_BUNDLE=/path/to/it.pem"),
        )
    refused = re.search(r"certificate verify failed: ([\w ,-]+)", text)
    if refused:
        return Fault(
            f"Python does not accept the certificate, {refused[1].strip()}",
            Advice("use another network, or ask who runs this one"),
        )
    return None


def broken_off(cause: str) -> Fault:
    """The fault of a line that is cut: another try may help, and where a proxy is set, it may be to blame."""
    cure = AGAIN
    if proxy_is_set():
        cure = f"{AGAIN}; if that does not help, look at {proxy_words()}"
    return Fault(cause, Advice(cure))


def of_disk(chain: list[BaseException], text: str) -> Fault | None:
    """A disk or a file system that does not do what it should."""
    for error in chain:
        if isinstance(error, requests.RequestException | HTTPError):
            return None  # numbers further inside are those of a connection
        if isinstance(error, MemoryError):
            return DISK[errno.ENOMEM]
        number = getattr(error, "errno", None)
        if number in NO_LOCKS_ERRORS:
            return NO_LOCKS
        if number in DISK:
            fault = DISK[number]
            if error.filename:
                return Fault(f"{fault.cause}, {error.filename}", fault.cure)
            return fault
        if isinstance(error, OSError) and error.filename:
            return Fault(f"the system refuses {error.filename}, {error.strerror}", ANOTHER_DISK)
        if "can't start new thread" in str(error):
            return Fault(
                "this machine lets you start no more threads",
                Advice("end other programs; `ulimit -u` shows the limit"),
            )
    return None


def of_address(chain: list[BaseException], text: str) -> Fault | None:
    """An address, a name of a host or a token that cannot be used."""
    kinds = requests.exceptions
    for error in chain:
        if isinstance(error, socket.gaierror | NameResolutionError):
            return Fault("the host's name is not known", Advice("check the network and MODELSCOPE_ENDPOINT"))
        if isinstance(error, kinds.InvalidURL | kinds.InvalidSchema | kinds.MissingSchema):
            return Fault("an address cannot be read", Advice("check MODELSCOPE_ENDPOINT and the proxy"))
        if isinstance(error, UnicodeDecodeError):
            return Fault(
                "a file that is read here holds no text, such as the saved login of ModelScope",
                Advice("delete ~/.modelscope/credentials and log in anew"),
            )
        if isinstance(error, UnicodeEncodeError) and error.encoding != "latin-1":  # that is for headers
            return Fault(
                f"{error.encoding} has no sign for {error.object[error.start : error.end]!a}",
                Advice("set PYTHONUTF8=1, or use a folder whose name has plain letters only"),
            )
        if isinstance(error, kinds.InvalidHeader | UnicodeError) or "Invalid header value" in text:
            return Fault(
                "MODELSCOPE_API_TOKEN holds signs that no token has", Advice("set it anew or unset it")
            )
        if isinstance(error, kinds.TooManyRedirects):
            return Fault("the answers lead in a circle", LOGIN)
    return None


def of_connection(chain: list[BaseException], text: str) -> Fault | None:
    """A line that is down, slow or cut: here another try helps."""
    if any(isinstance(error, requests.exceptions.ProxyError) for error in chain) or "SOCKSHTTP" in text:
        return Fault(f"{proxy_words()} does not connect", PROXY)
    if any(isinstance(error, ConnectionRefusedError) for error in chain):
        return Fault("it refuses the connection", Advice(f"check the network, then {AGAIN}"))
    if any(getattr(error, "errno", None) in NO_WAY_ERRORS for error in chain) or "unreachable" in text:
        return NO_WAY
    if any(isinstance(error, TimeoutError | requests.Timeout) for error in chain):
        return Fault("no answer comes in time", Advice(AGAIN))
    if any(isinstance(error, ConnectionError | requests.RequestException) for error in chain):
        return broken_off("the connection keeps breaking off")
    return None


@contextmanager
def one_sentence(doing: str) -> Iterator[None]:
    """Turn whatever the disk, the connection or the client raises while `doing` this into one sentence."""
    try:
        yield
    except CourseError:
        raise
    except (OSError, HubError, MemoryError, UnicodeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and of_disk([error], "") is None:
            raise  # a fault of the program itself
        fault = explain(error)
        raise DownloadError(f"{doing}: {fault.cause} (", fault.cure, ").") from error
