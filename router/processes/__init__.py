"""One worker per core under a supervisor: sockets that outlive workers, rolls and drains."""
