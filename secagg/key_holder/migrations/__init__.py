"""Alembic's migrations of a key holder's database."""
