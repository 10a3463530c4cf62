"""The real model's tokenizer without a download, from the vocabulary that the package `dashscope` ships.

That holds 151,643 byte-level tokens (`qwen.tiktoken`); nothing else of the package is used. The tokenizer is
built from them as the hub's `tokenizer.json` describes one.
"""

import base64
import importlib.util
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from helpers import EMBEDDED_MODEL

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
END_OF_TEXT = 151_643  # also the number of ordinary tokens
IM_START = 151_644
IM_END = 151_645
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def vocabulary_file() -> Path | None:
    """The file inside the package, found without importing it; None where it is not installed."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None:
        return None
    return Path(spec.origin).parent / "resources" / "qwen.tiktoken"


def read_ranks(file: Path) -> dict[bytes, int]:
    """Bytes and id of every ordinary token."""
    lines = file.read_bytes().split(b"\n")
    pairs = [line.split() for line in lines if line]
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def letters_for_bytes() -> dict[int, str]:
    """The letter that stands for each byte in a byte-level vocabulary: itself where it can be printed."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + len(letters) - len(printable))
    return letters


def merges_of(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pairs that byte pair encoding joins, in order: every way to make a token of two earlier ones."""
    merges = []
    for token, rank in ranks.items():
        pairs = []
        for cut in range(1, len(token)):
            left = token[:cut]
            right = token[cut:]
            if left in ranks and right in ranks:
                pairs.append((ranks[left], ranks[right], left, right))
        merges += [(rank, *pair) for pair in sorted(pairs)]
    merges.sort(key=lambda merge: merge[0])
    return [(left, right) for _, _, _, left, right in merges]


def build_tokenizer(ranks: dict[bytes, int]) -> PreTrainedTokenizerFast:
    """The real model's tokenizer, with the chat template of the embedded model, which is the same."""
    letters = letters_for_bytes()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    merges = [(spell(left), spell(right)) for left, right in merges_of(ranks)]
    core = Tokenizer(BPE(vocabulary, merges))
    core.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    built = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    built.chat_template = (EMBEDDED_MODEL / "chat_template.jinja").read_text()
    return built
