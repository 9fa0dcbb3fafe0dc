"""``python -m router.sources``: the sources process, as its supervisor starts it."""

import sys

from router.sources.process import main

if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
