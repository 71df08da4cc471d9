"""``python -m jaxnets`` is the command ``jaxnets``."""

import sys

from jaxnets.cli import main

sys.exit(main())
