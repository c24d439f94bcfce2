"""Stores: directories with a quota that instant snapshots of several volumes share (VxVM's cache volumes).

What a store is, and which snapshot is given up where it is full, is decided here.
"""
