"""Snapshots are taken and given back here: each verb over a volume and its snapshots is one commit. It never decides
what a snapshot gains or loses (core/decisions), and never keeps old data by itself (serving/keeping.py). It
stands on the registry, and imports resync/, opening/ and serving/.
"""
