"""`python -m sdediff`."""

import sys

from sdediff.cli import main

sys.exit(main())
