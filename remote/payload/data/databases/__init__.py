"""Databases that the source `database` asks: PostgreSQL, SQLite, and exports as Parquet or
DuckDB."""
