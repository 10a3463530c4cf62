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
    return value, "a setting of this system"


def proxy_is_set() -> bool:
    """Whether a connection to the hub goes through a proxy."""
    return proxy()[0] != ""


def proxy_words() -> str:
    """The proxy in words, without the password that may be in its address."""
    value, variable = proxy()
    if not value:
        return "a proxy"
    return f"the proxy {without_password(value)} (set by {variable})"


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
            f"{variable} is set to {without_password(text)!r}, which is no address: ",
            Advice(f"correct it ({schemes[0]}://host:port) or unset it"),
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
            f"The proxy {without_password(value)} (set by {variable}) speaks SOCKS, for which a package is "
            "missing: ",
            Advice(f"pip install pysocks, or unset {variable}"),
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
    with waiting(f"connecting to {stop.host}"):
        thread.start()
        thread.join(PATIENCE)
    if outcome == [None]:
        return
    why = "no answer within 3 seconds"
    if outcome and isinstance(outcome[0], socket.gaierror | UnicodeError):
        why = "no such name is known"
    elif outcome and isinstance(outcome[0], ConnectionRefusedError):
        why = f"nothing listens at port {stop.port}"
    elif outcome and getattr(outcome[0], "errno", None) in NO_WAY_ERRORS:
        why = "this machine has no way there"
    if stop.variable == "MODELSCOPE_ENDPOINT":
        cure = "check the network and the proxy settings"
        if os.environ.get("MODELSCOPE_ENDPOINT"):
            cure = "check the network and MODELSCOPE_ENDPOINT"
        raise NoNetworkError(f"No connection to {stop.host} ({why}): ", Advice(cure))
    raise NoNetworkError(
        f"No connection to the proxy {stop.host}:{stop.port} that {stop.variable} sets ({why}): ",
        Advice(f"start it, or unset {stop.variable}"),
    )
