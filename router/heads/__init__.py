"""What the router changes in heads of messages, and answers that it makes itself. Knows no socket."""
