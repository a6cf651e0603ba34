"""A key holder's service: gRPC, storage and time around the pure role in `secagg.roles.key_holder`."""
