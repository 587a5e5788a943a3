"""Scenes: Blender's files, glTF and OBJ; what is in them by name, one part taken from an older version."""
