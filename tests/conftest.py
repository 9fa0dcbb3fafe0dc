"""What holds for all tests."""

import signal

# Whoever starts this in the background may have it ignore Ctrl-C; programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
