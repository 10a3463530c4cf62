"""The real model's file list as a stored example, so that a learner without network sees it too.

It shows what a list looks like, and is never what a download is checked against: that is the list of the hub
at the time of the download.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from helpers.download.manifest import ModelFile
from helpers.language import say, to_say

STORED = Path(__file__).with_name("qwen1.5-moe-a2.7b-chat.files.json")

#: What the file says in words about itself: `complete` and `compared`.
WORDS = (
    to_say("config.json and the eight shards only; index and tokenizer are left out"),
    to_say("not compared with the sha256 that ModelScope lists"),
)


@dataclass(frozen=True)
class StoredList:
    """A file list with where it is from.

    model_id, source, revision: whose list this is. complete: which files it leaves out. compared: what it was
    not compared with. files: with size in bytes and sha256.
    """

    model_id: str
    source: str
    revision: str
    complete: str
    compared: str
    files: list[ModelFile]


def stored_file_list() -> StoredList:
    """The list of Qwen1.5-MoE-A2.7B-Chat as it stands on Hugging Face, read from a file of the course."""
    content = json.loads(STORED.read_text("utf-8"))
    files = [ModelFile(**file) for file in content.pop("files")]
    for key in ("complete", "compared"):
        content[key] = say(content[key])
    return StoredList(**content, files=files)
