"""The HTTP handlers: request in, response out; the work itself is a phase or a duty."""
