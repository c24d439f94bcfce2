"""Plexes come and go here while their volume is started: a join, letting go of one whose gate has closed, and the
return of one that failed. It never copies (resync/), and never decides what is to be copied (core/decisions). It
imports resync/, opening/ and serving/, and what a started volume is (running.py).
"""
