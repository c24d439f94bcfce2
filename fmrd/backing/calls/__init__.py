"""This wing runs calls that may block or take long, so that trio's thread never waits for a disk: by worker threads, by
a second thread beside it, or in its idle time. It never knows what a call does, but for the errors of storage. It
imports trio, the protocol of backing, and errors.
"""
