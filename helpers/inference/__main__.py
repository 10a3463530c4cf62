"""`python -m helpers.inference`: answer one prompt in a terminal."""

import sys

from helpers.inference.command import main

sys.exit(main())
