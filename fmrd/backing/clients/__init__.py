"""The files that fmrd shows, as its clients read and write them: never a plex."""
