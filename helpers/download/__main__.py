"""`python -m helpers.download`: plan, download and verify in a terminal."""

import sys

from helpers.download.command import main

sys.exit(main())
