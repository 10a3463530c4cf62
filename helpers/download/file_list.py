"""Ask the hub for its list of a model's files, and check it before anything is written."""

from pathlib import Path, PurePosixPath

import requests
from modelscope_hub import HubConfig
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from helpers import CourseError
from helpers.download import manifest
from helpers.download.errors import DownloadError
from helpers.download.faults import explain, of_status_number
from helpers.download.manifest import ModelFile, safe_file
from helpers.download.network import PATIENCE, connect, endpoint
from helpers.download.progress import waiting
from helpers.language import say, to_say

LONGEST_LIST = 3000  # entries; the hub cuts a longer list off without saying so
LONGEST_ANSWER = 30  # seconds without a byte


def list_files(model_id: str, revision: str, folder: Path) -> list[ModelFile]:
    """The model's files as the hub lists them, each checked to be safe to write into the folder."""
    connect()
    answer = ask(model_id, revision)
    if not answer.ok:
        fault = of_status_number(answer.status_code)
        raise DownloadError(
            to_say("The hub does not list {model} ({revision}): {cause} ({cure})."),
            fault.cure,
            model=model_id,
            revision=revision,
            cause=fault.cause,
        )
    try:
        entries = read_entries(answer.json(), model_id)
        files = [read_file(entry, folder) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CourseError(
            say(
                "The answer is not a list of files but something else, such as the login page of this "
                "network or a proxy's page: log in there, or unset http_proxy and https_proxy."
            )
        ) from None
    different = {file.path for file in files}
    if not files or len(entries) >= LONGEST_LIST or len(different) < len(files):
        raise CourseError(
            say("The hub's list of files of {model} is empty, cut off or names a file twice.", model=model_id)
        )
    require_files_or_folders(files, model_id)
    return files


def require_files_or_folders(files: list[ModelFile], model_id: str) -> None:
    """Refuse a list that names the same path as a file and as a folder."""
    paths = {file.path for file in files}
    for file in files:
        for folder in PurePosixPath(file.path).parents:
            if str(folder) in paths:
                raise CourseError(
                    say(
                        "The hub's list of files of {model} names {path} as a file and as a folder: the list "
                        "is wrong, take another revision or another model.",
                        model=model_id,
                        path=str(folder)[:80],
                    )
                )


def ask(model_id: str, revision: str) -> requests.Response:
    """The hub's answer to the question which files the model has, whatever it is."""
    retry = Retry(2, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    retry.respect_retry_after_header = False  # a clear answer now is better than minutes of waiting
    session = requests.Session()
    session.mount(endpoint(), HTTPAdapter(max_retries=retry))
    token = HubConfig().token
    if token:
        session.cookies.set("m_session_id", token)
    url = f"{endpoint()}/api/v1/models/{model_id}/repo/files"
    query = {"Revision": revision, "Recursive": "True"}
    try:
        with waiting(say("asking the hub for its list of the files of {model}", model=model_id)):
            return session.get(url, params=query, timeout=(PATIENCE, LONGEST_ANSWER))
    except (requests.RequestException, OSError, ValueError) as error:
        fault = explain(error)
        raise DownloadError(
            to_say("The hub does not list {model}: {cause} ({cure})."),
            fault.cure,
            model=model_id,
            cause=fault.cause,
        ) from error


def read_entries(content: dict, model_id: str) -> list[dict]:
    """The entries of the answer that are files; an error of the same kind for anything that is no list."""
    if content["Success"] is not True:
        words = str(content.get("Message"))[:200]
        raise CourseError(say("The hub does not list {model}: {words!r}.", model=model_id, words=words))
    entries = content["Data"]["Files"]
    # Somebody may have put up a folder of this course with its manifest: a manifest is written here.
    return [entry for entry in entries if entry.get("Type") != "tree" and entry["Path"] != manifest.NAME]


def read_file(entry: dict, folder: Path) -> ModelFile:
    """One entry of the hub's list as a file."""
    sha256 = entry.get("Sha256") or ""
    return safe_file(folder, entry["Path"], entry["Size"], sha256.lower())
