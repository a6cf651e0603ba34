"""Secure aggregation: plans, messages, role machines, identities and their drivers.

Import the modules you need; this file loads none, so that a process only ever
loads the code of its own role.
"""
