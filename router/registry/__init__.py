"""The route registry in Redis: the one thing that crosses between control plane and data plane."""
