"""The way to the hub: its address, the proxy in between, and whether anybody answers there."""

import contextlib
import errno
import importlib.util
import os
import re
import socket
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from modelscope_hub import HubConfig
from urllib3.exceptions import LocationParseError

from helpers.download.errors import Advice, DownloadError, NoNetworkError
from helpers.download.progress import waiting
from helpers.language import say, to_say

PATIENCE = 3  # seconds for a connection
#: Errors of the operating system where no way leads to the other side.
NO_WAY_ERRORS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
PORTS = {"https": 443, "http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True)
class Address:
    """Where to connect to: a scheme such as https, a host, a port, and the `variable` that says so."""

    scheme: str
    host: str
    port: int
    variable: str


def endpoint() -> str:
    """The hub's address: modelscope.cn unless MODELSCOPE_ENDPOINT names another."""
    return HubConfig.normalize_endpoint(os.environ.get("MODELSCOPE_ENDPOINT"))


def proxy() -> tuple[str, str]:
    """The proxy that requests would use for the hub, and the variable that sets it; "" if there is none."""
    url = endpoint()
    value = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
    if not value:
        return "", ""
    scheme = url.split(":")[0].lower()
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        if os.environ.get(name) == value:
            return value, name
    return value, say("a setting of this system")


def proxy_is_set() -> bool:
    """Whether a connection to the hub goes through a proxy."""
    return proxy()[0] != ""


def proxy_words() -> str:
    """The proxy in words, without the password that may be in its address."""
    value, variable = proxy()
    if not value:
        return say("a proxy")
    address = without_password(value)
    return say("the proxy {address} (set by {variable})", address=address, variable=variable)


def without_password(address: str) -> str:
    """An address that may be shown: what stands before the last @ is left out."""
    scheme, separator, rest = address.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def read_address(text: str, variable: str, schemes: tuple[str, ...]) -> Address:
    """Take an address apart; DownloadError that names its setting if it is none."""
    scheme = ""
    host = ""
    port = 0
    # ValueError and LocationParseError: a port that is no number, half an IPv6 address
    with contextlib.suppress(ValueError, LocationParseError):
        parts = urlsplit(requests.utils.prepend_scheme_if_needed(text, "http"))
        scheme = parts.scheme.lower()
        host = parts.hostname or ""
        port = parts.port or PORTS.get(scheme, 0)
    is_padded = text != text.strip()  # the client would not take the blanks away
    if is_padded or scheme not in schemes or not re.fullmatch(r"[\w.:-]+", host) or not port:
        raise DownloadError(
            to_say("{variable} is set to {address!r}, which is no address: {cure}."),
            Advice(say("correct it ({scheme}://host:port) or unset it", scheme=schemes[0])),
            variable=variable,
            address=without_password(text),
        )
    return Address(scheme, host, port, variable)


def first_stop() -> Address:
    """Where a connection to the hub has to go first: to the proxy if there is one, else to the hub."""
    hub = read_address(endpoint(), "MODELSCOPE_ENDPOINT", ("http", "https"))
    value, variable = proxy()
    if not value:
        return hub
    stop = read_address(value, variable, ("http", "https", "socks5", "socks5h", "socks4", "socks4a"))
    if stop.scheme.startswith("socks") and importlib.util.find_spec("socks") is None:
        raise DownloadError(
            to_say(
                "The proxy {address} (set by {variable}) speaks SOCKS, for which a package is missing: "
                "{cure}."
            ),
            Advice(say("pip install pysocks, or unset {variable}", variable=variable)),
            address=without_password(value),
            variable=variable,
        )
    return stop


def connect() -> None:
    """Open and close one connection: without network the answer comes in 3 seconds, the client's in 22.

    In a thread, because looking up a name can hang for longer than any timeout of a connection.
    """
    stop = first_stop()
    outcome = []

    def attempt() -> None:
        try:
            socket.create_connection((stop.host, stop.port), PATIENCE).close()
            outcome.append(None)
        except (OSError, UnicodeError) as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    with waiting(say("connecting to {host}", host=stop.host)):
        thread.start()
        thread.join(PATIENCE)
    if not outcome:
        raise no_connection(stop, None)
    if outcome[0] is not None:
        raise no_connection(stop, outcome[0])


def no_connection(stop: Address, error: Exception | None) -> NoNetworkError:
    """The sentence for a connection that did not come about; `error`: None where nobody answered in time."""
    why = say("no answer within {seconds} seconds", seconds=PATIENCE)
    if isinstance(error, socket.gaierror | UnicodeError):
        why = say("no such name is known")
    elif isinstance(error, ConnectionRefusedError):
        why = say("nothing listens at port {port}", port=stop.port)
    elif getattr(error, "errno", None) in NO_WAY_ERRORS:
        why = say("this machine has no way there")
    if stop.variable == "MODELSCOPE_ENDPOINT":
        cure = say("check the network and the proxy settings")
        if os.environ.get("MODELSCOPE_ENDPOINT"):
            cure = say("check the network and MODELSCOPE_ENDPOINT")
        return NoNetworkError(
            to_say("No connection to {host} ({why}): {cure}."), Advice(cure), host=stop.host, why=why
        )
    return NoNetworkError(
        to_say("No connection to the proxy {host}:{port} that {variable} sets ({why}): {cure}."),
        Advice(say("start it, or unset {variable}", variable=stop.variable)),
        host=stop.host,
        port=stop.port,
        variable=stop.variable,
        why=why,
    )
