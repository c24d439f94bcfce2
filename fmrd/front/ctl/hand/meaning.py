"""What is never guessed for a word that was mistyped: verbs and options that give something up.

Whoever is in a hurry would take it. ``cli.run`` takes these out of what click would suggest, and ``helping`` guesses no
name for them.
"""

LOSES = {
    *("remove", "dis", "snapclear", "snapabort", "snapback", "undo", "refresh", "abort", "replace", "prune", "receive"),
    *("--erase", "--discard", "--force", "--yes", "--full", "--accept", "--without"),
    *("--delete", "--reset", "--abort"),
}
