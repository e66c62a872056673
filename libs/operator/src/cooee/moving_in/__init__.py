"""Read an earlier system and write it through the services: the tables, the conversion, the steps."""
