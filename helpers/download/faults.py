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
from helpers.download.errors import Advice, DownloadError, another_disk, run_again
from helpers.download.network import NO_WAY_ERRORS, proxy_is_set, proxy_words
from helpers.language import say


class Fault(NamedTuple):
    """A fault in words: its cause, and what helps against it."""

    cause: str
    cure: Advice


def check_name() -> Advice:
    """Where the hub does not know what it is asked for."""
    return Advice(say("check the name and the revision"))


def log_in() -> Advice:
    """Where a network shows its login page instead of what was asked for."""
    return Advice(say("open any page in a browser and log in to this network"))


def wait_a_minute() -> Advice:
    """Where the hub has too much to do."""
    return Advice(say("wait a minute, then run this again"))


def mend_proxy() -> Advice:
    """Where the proxy does not do its work."""
    return Advice(say("start or correct it, or unset that variable"))


# The faults below are made at each call: a learner may have changed the language since.


def status_faults() -> dict[int, Fault]:
    """What the hub's answers mean that are no files, by HTTP status."""
    return {
        400: Fault(say("it does not understand the question"), check_name()),
        401: Fault(say("it wants a login"), Advice(say("check the name, or set MODELSCOPE_API_TOKEN"))),
        403: Fault(
            say("it refuses access"), Advice(say("check the name, or accept the terms on the model's page"))
        ),
        404: Fault(say("it has no such thing"), check_name()),
        429: Fault(say("it had too many requests"), wait_a_minute()),
        451: Fault(say("it may not give this out here"), Advice(say("take another model"))),
        511: Fault(say("this network wants a login first"), log_in()),
    }


def disk_faults() -> dict[int, Fault]:
    """What the operating system's errors mean that come from a disk or a file system, by their number."""
    elsewhere = another_disk()
    may_not_write = Fault(say("this user may not write there"), elsewhere)
    own_fault = Fault(say("the disk reports a fault of its own"), elsewhere)
    plain_name = Fault(
        say("the file system takes no such name"),
        Advice(say("use a folder whose name has plain letters only")),
    )
    return {
        errno.ENOSPC: Fault(say("the disk is full"), elsewhere),
        errno.EDQUOT: Fault(say("your quota on this disk is used up"), elsewhere),
        errno.EROFS: Fault(say("the file system is read-only"), elsewhere),
        errno.EACCES: may_not_write,
        errno.EPERM: may_not_write,
        errno.EFBIG: Fault(say("this file system holds no files of this size"), elsewhere),
        errno.EIO: own_fault,
        errno.EUCLEAN: own_fault,
        errno.ENAMETOOLONG: Fault(say("a name is too long for this file system"), elsewhere),
        errno.ENOENT: Fault(say("a folder is not there and cannot be made"), elsewhere),
        errno.EINVAL: plain_name,
        errno.EILSEQ: plain_name,
        **lost_disk_faults(),
        **occupied_faults(),
    }


def lost_disk_faults() -> dict[int, Fault]:
    """Of those, what a disk means that was there before."""
    attach = Advice(say("attach it, then run this again, it goes on where it stopped"))
    gone = Fault(say("the disk is gone"), attach)
    mount = Advice(say("mount it again, then run this again, it goes on where it stopped"))
    lost = Fault(say("the connection to the network disk is lost"), mount)
    return {
        errno.ENODEV: gone,
        errno.ENOMEDIUM: gone,
        errno.ENXIO: gone,
        errno.ESTALE: lost,
        errno.ENOTCONN: lost,
        errno.EREMOTEIO: lost,
        errno.EHOSTDOWN: lost,
    }


def occupied_faults() -> dict[int, Fault]:
    """Of those, what is in the way, is in use or is used up."""
    move_away = Advice(say("move it away"))
    file_in_the_way = Fault(say("a file is in the way where a folder has to be"), move_away)
    folder_in_the_way = Fault(say("a folder is in the way where a file has to be"), move_away)
    end_it = Advice(say("end it, then run this again, it goes on where it stopped"))
    in_use = Fault(say("another program uses the file"), end_it)
    return {
        errno.ENOTDIR: file_in_the_way,
        errno.EEXIST: file_in_the_way,
        errno.EISDIR: folder_in_the_way,
        errno.ENOTEMPTY: folder_in_the_way,
        errno.ELOOP: Fault(say("a link leads to itself"), Advice(say("remove it"))),
        errno.ETXTBSY: in_use,
        errno.EBUSY: in_use,
        errno.EMFILE: Fault(
            say("this process has too many files open"),
            Advice(say("restart it; `ulimit -n` shows the limit")),
        ),
        errno.ENFILE: Fault(say("this machine has too many files open"), Advice(say("close other programs"))),
        errno.ENOMEM: no_memory(),
    }


def no_memory() -> Fault:
    """The fault of a machine whose RAM is used up."""
    return Fault(
        say("this machine has no memory left"),
        Advice(say("end other programs, then run this again, it goes on where it stopped")),
    )


#: What an attempt to lock a file answers on a file system without locks.
NO_LOCKS_ERRORS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


def no_locks() -> Fault:
    """The fault of such a file system."""
    return Fault(
        say("the file system there has no locks"),
        Advice(
            say(
                "pass cache_dir='/another/disk', or, if nothing else downloads there, set "
                "MODELSCOPE_DOWNLOAD_FILE_LOCK=0"
            ),
            say(
                "pass --cache-dir /another/disk, or, if nothing else downloads there, set "
                "MODELSCOPE_DOWNLOAD_FILE_LOCK=0"
            ),
        ),
    )


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
    known = status_faults()
    if status in known:
        return known[status]
    cause = say("it answers HTTP {status}", status=status)
    if status >= 500 or status in (408, 425):
        return Fault(cause, wait_a_minute())
    return Fault(cause, Advice(say("check the name, the revision and MODELSCOPE_ENDPOINT")))


def explain(error: BaseException) -> Fault:
    """Cause and cure of whatever went wrong."""
    chain = unwrap(error)
    text = " ".join(str(inner) for inner in chain)
    for rule in (of_answer, of_proxy, of_certificate, of_disk, of_address, of_connection):
        fault = rule(chain, text)
        if fault:
            return fault
    what = " ".join(str(error).split())[:160]
    return Fault(f"{type(error).__name__}: {what}", Advice(say("a fault that the course does not know")))


def of_answer(chain: list[BaseException], text: str) -> Fault | None:
    """The hub answers, but not with what the list of files promised."""
    for error in chain:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return of_status_number(status)
        if isinstance(error, FileIntegrityError):
            return Fault(
                say("what arrives has not the listed size or sha256"), Advice(say("try again later"))
            )
    return None


def proxy_wants_password() -> Fault:
    """The fault of a proxy that has to know who asks."""
    return Fault(
        say("{proxy} wants a name and a password", proxy=proxy_words()),
        Advice(say("write them into its address, http://NAME:PASSWORD@host:port, or unset that variable")),
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
            say("{proxy} speaks SOCKS, for which a package is missing", proxy=proxy_words()),
            Advice(say("pip install pysocks, or unset that variable")),
        )
    if any(words in text for words in WANTS_PASSWORD):
        return proxy_wants_password()
    refused = re.search(r"Tunnel connection failed: (\d+)", text)
    if refused:
        cause = say(
            "{proxy} does not let this through, HTTP {status}", proxy=proxy_words(), status=refused[1]
        )
        return Fault(cause, mend_proxy())
    if "appears to only use HTTP and not HTTPS" in text:
        return Fault(
            say("{proxy} speaks http, not https", proxy=proxy_words()),
            Advice(say("write its address as http://host:port")),
        )
    if any(isinstance(error, requests.exceptions.InvalidProxyURL) for error in chain):
        return Fault(say("{proxy} has no usable address", proxy=proxy_words()), mend_proxy())
    return None


def of_certificate(chain: list[BaseException], text: str) -> Fault | None:
    """A certificate that Python does not accept, or an answer without one."""
    if "TLS CA certificate bundle" in text or "TLS certificate file" in text:
        return Fault(
            say("REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file that is not there"),
            Advice(say("correct or unset it")),
        )
    if not any(isinstance(error, ssl.SSLError | requests.exceptions.SSLError) for error in chain):
        return None
    if "NO_CERTIFICATE_OR_CRL_FOUND" in text or "[X509" in text or "PEM lib" in text:
        return Fault(
            say("REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file that holds no certificate"),
            Advice(say("correct or unset it")),
        )
    refused = of_refused_certificate(text)
    if refused:
        return refused
    if any(words in text for words in CUT_OFF):
        return broken_off(say("the secure connection is broken off"))
    if "WRONG_VERSION_NUMBER" in text or "UNKNOWN_PROTOCOL" in text:
        return Fault(
            say("what answers there speaks http, not https"), Advice(say("write the address with http://"))
        )
    return Fault(
        say("no secure connection comes about"), Advice(say("check the proxy and MODELSCOPE_ENDPOINT"))
    )


def of_refused_certificate(text: str) -> Fault | None:
    """A certificate that Python has looked at and does not accept."""
    if "not yet valid" in text or "has expired" in text:
        return Fault(
            say("the certificate is not valid at this time"),
            Advice(say("check this machine's clock with `date`; if it is right, use another network")),
        )
    if "mismatch" in text or "doesn't match" in text:
        return Fault(say("the certificate belongs to another host, as that of a login page does"), log_in())
    if any(words in text for words in NO_AUTHORITY):
        return Fault(
            say(
                "the certificate is from no authority that Python knows, as where a company reads its network"
            ),
            Advice(say("ask for that network's own certificate and set REQUESTS_CA_BUNDLE=/path/to/it.pem")),
        )
    refused = re.search(r"certificate verify failed: ([\w ,-]+)", text)
    if refused:
        return Fault(
            say("Python does not accept the certificate, {words}", words=refused[1].strip()),
            Advice(say("use another network, or ask who runs this one")),
        )
    return None


def broken_off(cause: str) -> Fault:
    """The fault of a line that is cut: another try may help, and where a proxy is set, it may be to blame."""
    if not proxy_is_set():
        return Fault(cause, run_again())
    cure = say(
        "run this again, it goes on where it stopped; if that does not help, look at {proxy}",
        proxy=proxy_words(),
    )
    return Fault(cause, Advice(cure))


def of_disk(chain: list[BaseException], text: str) -> Fault | None:
    """A disk or a file system that does not do what it should."""
    for error in chain:
        if isinstance(error, requests.RequestException | HTTPError):
            return None  # numbers further inside are those of a connection
        if isinstance(error, MemoryError):
            return no_memory()
        if isinstance(error, OSError):
            fault = of_system(error)
            if fault:
                return fault
        if "can't start new thread" in str(error):
            return Fault(
                say("this machine lets you start no more threads"),
                Advice(say("end other programs; `ulimit -u` shows the limit")),
            )
    return None


def of_system(error: OSError) -> Fault | None:
    """What an error of the operating system means that comes from a disk; None for any other."""
    if error.errno in NO_LOCKS_ERRORS:
        return no_locks()
    fault = disk_faults().get(error.errno)
    if fault and error.filename:
        return Fault(say("{cause}, {file}", cause=fault.cause, file=error.filename), fault.cure)
    if error.filename and not fault:
        cause = say("the system refuses {file}, {words}", file=error.filename, words=error.strerror)
        return Fault(cause, another_disk())
    return fault


def of_address(chain: list[BaseException], text: str) -> Fault | None:
    """An address, a name of a host or a token that cannot be used."""
    kinds = requests.exceptions
    for error in chain:
        if isinstance(error, socket.gaierror | NameResolutionError):
            return Fault(
                say("the host's name is not known"), Advice(say("check the network and MODELSCOPE_ENDPOINT"))
            )
        if isinstance(error, kinds.InvalidURL | kinds.InvalidSchema | kinds.MissingSchema):
            return Fault(
                say("an address cannot be read"), Advice(say("check MODELSCOPE_ENDPOINT and the proxy"))
            )
        if isinstance(error, UnicodeDecodeError):
            return Fault(
                say("a file that is read here holds no text, such as the saved login of ModelScope"),
                Advice(say("delete ~/.modelscope/credentials and log in anew")),
            )
        if isinstance(error, UnicodeEncodeError) and error.encoding != "latin-1":  # that is for headers
            signs = error.object[error.start : error.end]
            return Fault(
                say("{encoding} has no sign for {signs!a}", encoding=error.encoding, signs=signs),
                Advice(say("set PYTHONUTF8=1, or use a folder whose name has plain letters only")),
            )
        if isinstance(error, kinds.InvalidHeader | UnicodeError) or "Invalid header value" in text:
            return Fault(
                say("MODELSCOPE_API_TOKEN holds signs that no token has"),
                Advice(say("set it anew or unset it")),
            )
        if isinstance(error, kinds.TooManyRedirects):
            return Fault(say("the answers lead in a circle"), log_in())
    return None


def of_connection(chain: list[BaseException], text: str) -> Fault | None:
    """A line that is down, slow or cut: here another try helps."""
    if any(isinstance(error, requests.exceptions.ProxyError) for error in chain) or "SOCKSHTTP" in text:
        return Fault(say("{proxy} does not connect", proxy=proxy_words()), mend_proxy())
    if any(isinstance(error, ConnectionRefusedError) for error in chain):
        return Fault(
            say("it refuses the connection"),
            Advice(say("check the network, then run this again, it goes on where it stopped")),
        )
    if any(getattr(error, "errno", None) in NO_WAY_ERRORS for error in chain) or "unreachable" in text:
        return Fault(
            say("this machine has no way there"),
            Advice(say("check its network, then run this again, it goes on where it stopped")),
        )
    if any(isinstance(error, TimeoutError | requests.Timeout) for error in chain):
        return Fault(say("no answer comes in time"), run_again())
    if any(isinstance(error, ConnectionError | requests.RequestException) for error in chain):
        return broken_off(say("the connection keeps breaking off"))
    return None


@contextmanager
def one_sentence(sentence: str, **values: object) -> Iterator[None]:
    """Turn whatever the disk, the connection or the client raises in this block into one sentence.

    `sentence`: marked with `to_say`, with the fields `cause` and `cure`, and those of `values`.
    """
    try:
        yield
    except CourseError:
        raise
    except (OSError, HubError, MemoryError, UnicodeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and of_disk([error], "") is None:
            raise  # a fault of the program itself
        fault = explain(error)
        raise DownloadError(sentence, fault.cure, cause=fault.cause, **values) from error
