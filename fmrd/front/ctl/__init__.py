"""This wing is fmrctl: what a user types becomes one request to the daemon, and what comes back is shown. It never
imports the engine, and changes nothing by itself; ``dump`` alone reads a copy of the DCO without a daemon. It imports
the wire, core, errors, and for that backing and dco.
"""
