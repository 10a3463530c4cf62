"""`python -m helpers.environment`: the check in a terminal."""

import sys

from helpers.environment.checks import main

sys.exit(main())
