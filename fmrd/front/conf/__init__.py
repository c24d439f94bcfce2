"""/etc/fmrd.conf: what an installation sets once."""
