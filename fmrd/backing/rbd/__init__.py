"""Plexes that are images of a Ceph cluster: librbd carries out what an NBD server would (backing/nbd asks for it), and
the image's exclusive lock is the fence (docs/FAR.md).
"""
