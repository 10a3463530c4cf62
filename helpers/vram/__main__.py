"""`python -m helpers.vram`: the forecast in a terminal."""

import sys

from helpers.vram.forecasting import main

sys.exit(main())
