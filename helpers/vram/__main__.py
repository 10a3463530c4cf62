"""`python -m helpers.vram`: the forecast in a terminal."""

import sys

from helpers.vram.command import main

sys.exit(main())
