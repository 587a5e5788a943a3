"""Images of every depth: read as they are stored, compared, and shown.

`read` gives pixels without converting them, `display` makes of them what a screen can show, `statistics` and
`pictures` look at two images strip by strip, and `compare` puts it all together.
"""
