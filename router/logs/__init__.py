"""What operators read: the access log, and what the router says of itself."""
