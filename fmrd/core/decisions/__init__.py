"""This wing decides what concerns whole volumes, once a verb: who is on-line, how a plex joins, how snapshots begin and
end, which copy is the odd one. It never looks for itself: what was found is handed in. It imports core and errors.
"""
