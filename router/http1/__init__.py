"""HTTP/1.x without sockets: bytes in, checked messages out (RFC 9110, RFC 9112).

Nothing here knows a connection, a route or a setting other than limits; nothing here is lenient where leniency is how
requests are smuggled.
"""
