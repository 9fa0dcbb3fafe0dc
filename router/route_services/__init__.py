"""Route services: requests that pass through another proxy on their way to an application (gorouter reference 7)."""
