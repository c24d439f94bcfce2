"""How long things took, which plex is slow, where a map is dirty: figures, without a clock."""
