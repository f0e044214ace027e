"""``python -m margincore``."""

import sys

from margincore.cli import main

if __name__ == "__main__":
    sys.exit(main())
