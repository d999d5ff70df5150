"""Where the rows go beside train and val: manifest, modules, Parquet, the hub."""
