"""How one speaks with an NBD server: the bytes, and the connection that carries them. What they are for others know."""
