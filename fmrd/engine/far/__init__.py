"""What is different where a plex is not here: its calls take a round trip, and begin before those that do not."""
