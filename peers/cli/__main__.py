"""``python -m peers.cli``: the same as the ``gossip`` command."""

import sys

from peers.cli import main

sys.exit(main())
