"""The data plane: listeners, protocols, balancing, and the route registry that everyone else writes to."""
