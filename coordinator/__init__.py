"""The coordinator service: gRPC in, effects out, storage and operations. It never loads secrets of clients or holders."""
