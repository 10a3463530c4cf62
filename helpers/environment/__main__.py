"""`python -m helpers.environment`: the check in a terminal."""

import sys

from helpers.environment.command import main

sys.exit(main())
