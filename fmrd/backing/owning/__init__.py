"""This wing says whose a file is, in spite of kills: locks that end with the process, and what calls of one that was
left behind may still write. It never knows what a plex is. It imports libc.
"""
