"""Snapshots of git checkouts that hold only what git's remotes do not.

memory      repositories that are as they were when they were saved last
repository  one repository of a user, read and never written
record      what a snapshot says of a checkout, attached to it
rules       which files of a walk git protects
sources     where the objects come from that a snapshot relies on
view        a snapshot with the files it relies on
rebuild     a checkout made again from a snapshot
"""
