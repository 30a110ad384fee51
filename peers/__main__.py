"""``python -m peers`` is ``gossip``."""

import sys

from peers.cli import main

sys.exit(main())
