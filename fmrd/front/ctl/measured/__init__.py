"""Commands that show what is measured: figures, pictures of maps, and a live view."""
