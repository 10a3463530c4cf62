"""`python -m helpers.inference`: answer one prompt in a terminal."""

import sys

from helpers.inference.loading import main

sys.exit(main())
