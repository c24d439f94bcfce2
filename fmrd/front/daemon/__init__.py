"""This wing is the process that serves: options, signals, the control socket, and whoever started it. It never touches
a volume by itself: verbs and the registry do. It makes the real machine, and imports the doors and the engine.
"""
