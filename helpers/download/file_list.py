"""Ask the hub for its list of a model's files, and say in one sentence what stands in the way."""

import contextlib
import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import requests
from modelscope_hub import FileIntegrityError, HubConfig
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from helpers import CourseError
from helpers.download.manifest import ModelFile, checked

STATUS = {
    401: "it wants a login (check the name, or set MODELSCOPE_API_TOKEN)",
    403: "it refuses access (check the name, or accept the terms on the model's page)",
    404: "it has no such thing (check the name and the revision)",
    429: "it had too many requests (wait a minute, then run this again)",
}


class NoNetworkError(CourseError):
    """The hub cannot be reached."""


def endpoint() -> str:
    """The hub's address: modelscope.cn unless MODELSCOPE_ENDPOINT names another."""
    return HubConfig.normalize_endpoint(os.environ.get("MODELSCOPE_ENDPOINT"))


def connect() -> None:
    """Open and close one connection: without network the answer comes in 3 seconds, the client's in 22.

    In a thread, because looking up a name can hang for longer than any timeout of a connection.
    """
    proxy = requests.utils.select_proxy(endpoint(), requests.utils.get_environ_proxies(endpoint()))
    host = urlsplit(requests.utils.prepend_scheme_if_needed(proxy or endpoint(), "http"))
    port, connected = host.port or (443 if host.scheme == "https" else 80), threading.Event()

    def attempt() -> None:
        with contextlib.suppress(OSError), socket.create_connection((host.hostname, port), 3):
            connected.set()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(3)
    if not connected.is_set():
        raise NoNetworkError(f"No connection to {host.hostname}: check the network and the proxy settings.")


def list_files(model_id: str, revision: str, folder: Path) -> list[ModelFile]:
    """The model's files as the hub lists them, each checked to be safe to write into the folder."""
    connect()
    retry = Retry(2, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    retry.respect_retry_after_header = False  # a clear answer now is better than minutes of waiting
    session, token = requests.Session(), HubConfig().token
    session.mount(endpoint(), HTTPAdapter(max_retries=retry))
    session.cookies.update({"m_session_id": token} if token else {})
    url = f"{endpoint()}/api/v1/models/{model_id}/repo/files"
    try:
        answer = session.get(url, params={"Revision": revision, "Recursive": "True"}, timeout=(3, 30))
    except requests.RequestException as error:
        raise CourseError(f"The hub does not list {model_id}: {reason(error)}.") from None
    if not answer.ok:
        raise CourseError(f"The hub does not list {model_id} ({revision}): {reason(answer.status_code)}.")
    try:
        content = answer.json()
        if content["Success"] is not True:
            raise CourseError(f"The hub does not list {model_id}: {str(content.get('Message'))[:200]!r}.")
        entries = [entry for entry in content["Data"]["Files"] if entry.get("Type") != "tree"]
        files = [checked(folder, e["Path"], e["Size"], (e.get("Sha256") or "").lower()) for e in entries]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CourseError(
            "The answer is not a list of files but something else, such as the login page of this network "
            "or a proxy's page: log in there, or unset http_proxy and https_proxy."
        ) from None
    # The hub cuts a list off at 3,000 entries without saying so.
    if not files or len(entries) >= 3000 or len({file.path for file in files}) < len(files):
        raise CourseError(f"The hub's list of files of {model_id} is empty, cut off or names a file twice.")
    return files


def reason(cause: int | BaseException) -> str:
    """What an HTTP status or an exception of the client means for the learner."""
    status = cause if isinstance(cause, int) else getattr(cause, "status_code", None)
    if status:
        return STATUS.get(status, f"it answers HTTP {status} (wait a minute, then run this again)")
    if isinstance(cause, FileIntegrityError):
        return "what arrives has not the listed size or sha256 (try again later)"
    if isinstance(cause, (TimeoutError, OSError)):
        return "the connection keeps breaking off (run this again, it goes on where it stopped)"
    return f"{type(cause).__name__}, {str(cause)[:100]}"
