"""What the pictures say of the real model: its config, the cards of the course, and a request to show."""

import json

from helpers.vram import REAL_CONFIG

CONFIG = json.loads(REAL_CONFIG.read_text(encoding="utf-8"))
CARDS = ["24GiB", "24GiB"]
PROMPT = 8192  # tokens, as in notebook 02
NEW = 512
