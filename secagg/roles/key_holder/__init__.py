"""The role of a key holder: its part in making a key, and in opening one sum with it.

Pure: the driver in `secagg.key_holder` brings events and carries out effects.
"""
