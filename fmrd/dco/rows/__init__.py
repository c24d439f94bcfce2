"""More rows than one bank of columns needs: where they lie in a copy, and how they come (FORMAT, "Rows")."""
