"""A map drains here: copies in the background, window by window, which give way to the application. It never opens a
gate or a file, and never serves a request. It imports serving/, running.py and tasks.py, and below them core and
backing's protocol and system_calls.
"""
