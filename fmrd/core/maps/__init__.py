"""Maps are sets in memory: which regions a plex missed, which extents are being written, which bytes cannot be read.
They never know a volume, a plex or who asks; they import the values of core that lie beside this folder.
"""
