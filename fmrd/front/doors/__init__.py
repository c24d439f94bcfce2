"""A door brings the kernel's requests to the volumes, and their answers back. It never holds data or state of a volume:
it has handles, and asks ``Served``. It imports the registry and what that serves, and errors.
"""
