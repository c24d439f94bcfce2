"""Copies are compared here in the background, and what is proven wrong is written anew. It never decides which copy is
the odd one (core/decisions/comparing.py), and never writes over what can be read unless ``--repair`` or ``--from`` says
so. It imports serving/, running.py and tasks.py, and below them core and backing's protocol and system_calls.
"""
