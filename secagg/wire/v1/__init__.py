"""Version 1 of the wire: generated; read ``proto/secagg/wire/v1`` instead."""
