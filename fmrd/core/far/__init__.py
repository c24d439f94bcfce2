"""Names of what lies on other machines: read, checked, and written in one way only. Pure, like all of core; nothing
here asks anybody whether it is there.
"""
