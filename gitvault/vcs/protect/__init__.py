"""Snapshots of git checkouts that hold only what git's remotes do not.

index       git's index: the bytes, and what they name
repository  one repository of a user, read and never written
record      what a snapshot says of a checkout, attached to it
rules       which files of a walk git protects
sources     where the objects come from that a snapshot relies on
view        a snapshot with the files it relies on
rebuild     a checkout made again from a snapshot
"""
