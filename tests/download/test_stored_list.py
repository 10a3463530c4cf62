"""The stored file list of the real model agrees with everything else that the course knows about it."""

import hashlib
import re

from helpers.download import stored_file_list
from helpers.environment import REAL_MODEL
from helpers.vram.configs import REAL_CONFIG

BYTES_A_NUMBER = 2  # bf16
HEADERS = 576_560  # bytes of the eight headers, with their lengths


def test_the_shards_hold_the_parameters_and_their_headers():
    shards = [file for file in stored_file_list().files if file.path.endswith(".safetensors")]
    assert [file.path for file in shards] == [f"model-0000{n}-of-00008.safetensors" for n in range(1, 9)]
    assert sum(file.size for file in shards) == BYTES_A_NUMBER * REAL_MODEL.total + HEADERS
    assert max(file.size for file in shards) < 4 * 10**9


def test_the_config_of_the_course_is_the_listed_one():
    listed = next(file for file in stored_file_list().files if file.path == "config.json")
    content = REAL_CONFIG.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (listed.size, listed.sha256)


def test_it_says_where_it_is_from_and_what_was_not_compared():
    stored = stored_file_list()
    assert stored.source == "Hugging Face"
    assert re.fullmatch("[0-9a-f]{40}", stored.revision)
    assert "not compared" in stored.compared and "ModelScope" in stored.compared
    assert len({file.sha256 for file in stored.files}) == len(stored.files)
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in stored.files)
