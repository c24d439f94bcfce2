"""Look before taking: what lies at a path before it becomes a plex, or a copy of the DCO.

``look.look`` answers with a ``Seen``; it blocks, so it is called on a worker thread, and it changes nothing. Whether
what was seen forbids anything is for the engine to say. The parts: ``findings`` (what is said, safe to be printed),
``machine`` and ``mounts`` (what the kernel tells in sysfs and proc), ``trail`` (down to what a path or a device lies
on), ``users`` (who has it now), ``contents`` and ``blkid`` (what is on it), ``access`` (whose it is).
"""
