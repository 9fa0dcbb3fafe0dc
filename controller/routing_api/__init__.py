"""The Routing API (gorouter reference 1.7): routes that registrars announce over HTTP, and router groups."""
