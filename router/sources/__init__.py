"""Where routes come from besides Redis: Gorouter's own sources, in one process beside the workers."""
