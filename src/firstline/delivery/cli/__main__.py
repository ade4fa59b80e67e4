"""`python -m firstline.delivery.cli`, the same as `firstline`."""

import sys

from firstline.delivery.cli import main

sys.exit(main())
