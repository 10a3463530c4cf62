"""What several checks are tried on: the embedded model, a batch of it, and a folder to damage."""

import shutil

import pytest

from helpers import EMBEDDED_MODEL


@pytest.fixture(scope="session")
def model():
    import torch  # imported late: it takes seconds, and only some of these tests need it
    import transformers  # imported late: it takes seconds

    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL, dtype=torch.bfloat16)


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer  # imported late: it takes seconds

    return AutoTokenizer.from_pretrained(EMBEDDED_MODEL)


@pytest.fixture(scope="session")
def batch(tokenizer):
    return tokenizer(["one", "one and two and three"], padding=True, padding_side="left", return_tensors="pt")


@pytest.fixture(scope="session")
def downloaded(tmp_path_factory):
    """The embedded model, downloaded once, with its manifest."""
    from helpers.download import download  # imported late: modelscope takes seconds
    from helpers.download.local_hub import EMBEDDED_MODEL_ID, LocalHub  # imported late: with download

    with LocalHub():
        return download(EMBEDDED_MODEL_ID, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def toy(downloaded, tmp_path):
    """A copy to damage; the times of change are those of the manifest."""
    return shutil.copytree(downloaded, tmp_path / "toy")
