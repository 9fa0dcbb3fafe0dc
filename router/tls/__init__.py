"""TLS for the data plane: what a client says first, certificates, and the layer between a socket and a protocol."""
