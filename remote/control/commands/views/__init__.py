"""What commands show: values turned into tables and lines."""
