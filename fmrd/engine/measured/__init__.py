"""What is measured, looked at: figures of volumes and plexes, pictures of their maps, and plexes that are slow."""
